"""Spatial structure: are tokens near each other more alike than tokens far apart?"""

import torch
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor
from eqvae.evaluation.predictors.tokens import CELLS, MIN_SIDE, Reach, grid_distances, pixel_reach, unit_tokens


def mean_likeness(latents: Tensor, centred: bool = False) -> Tensor:
    """Cosine of each pair of cells, averaged over images, [h w, h w] float64."""
    products = torch.zeros((), dtype=torch.float64)
    for part in latents.split(500):
        tokens = unit_tokens(part, centred).flatten(0, 1)
        products = products + (tokens.T @ tokens).double()
    return products / len(latents)


def local_against_distant(likeness: Tensor, distance: Tensor, reach: Reach) -> float:
    """LDS: mean cosine of near pairs of cells minus that of far ones."""
    near, far = (distance > 0) & (distance <= reach.near), distance >= reach.far
    return float(likeness[near].mean() - likeness[far].mean())


def decay(likeness: Tensor, distance: Tensor, largest: int) -> float:
    """CDS: minus the slope of the mean cosine at a distance of 1 ... `largest` cells, per cell."""
    steps = torch.arange(1, largest + 1, dtype=torch.float64)
    means = torch.stack([likeness[distance == step].mean() for step in steps])
    centred = steps - steps.mean()
    return -float(centred @ means / centred.square().sum())


def contrast(latents: Tensor) -> float:
    """RMSC: root of the mean squared distance of an image's tokens from their mean, averaged over images."""
    tokens = unit_tokens(latents)
    squares = tokens.square().sum(1).mean(1) - tokens.mean(2).square().sum(1)
    return float(squares.clamp_min(0).sqrt().double().mean())


def compute(sample: LatentSample) -> dict[str, float]:
    """`lds` and `cds` measure distance on the image (`cds` per sixteenth of its side), `..._cells` on the grid."""
    side, distance = max(sample.latents.shape[2:]), grid_distances(*sample.latents.shape[2:])
    likeness, reach = mean_likeness(sample.latents), pixel_reach(side)
    return {
        "lds": local_against_distant(likeness, distance, reach),
        "lds_centred": local_against_distant(mean_likeness(sample.latents, centred=True), distance, reach),
        "cds": decay(likeness, distance, side // 2) * side / 16,
        "lds_cells": local_against_distant(likeness, distance, CELLS),
        "cds_cells": decay(likeness, distance, min(8, int(distance.max()))),
        "rmsc": contrast(sample.latents),
    }


STRUCTURE = Predictor("structure", "spatial structure", "arXiv 2512.10794",
                      {"lds": "higher", "lds_centred": "higher", "cds": "higher", "lds_cells": "higher",
                       "cds_cells": "higher", "rmsc": "open"}, compute, min_channels=2, min_side=MIN_SIDE,
                      invariances=("order", "signs", "rotation", "turn", "scale"))  # fmt: skip

"""SRSS: are tokens of the foreground like their neighbours in it, and unlike the background far away?"""

import torch
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor, known
from eqvae.evaluation.predictors.tokens import CELLS, MIN_SIDE, Reach, grid_distances, pixel_reach, unit_tokens


def _mean_cosine(tokens: Tensor, members: Tensor, pairs: Tensor) -> Tensor:
    """Mean cosine [N, S] of each token [N, C, S] with the members [N, S] it is paired with [S, S]; NaN for none."""
    sums, counts = ((tokens * members[:, None]) @ pairs * tokens).sum(1), members @ pairs
    return sums / counts.where(counts > 0, torch.nan)


def image_scores(tokens: Tensor, masks: Tensor, distance: Tensor, reach: Reach) -> Tensor:
    """Score of each image [N], NaN where it has no two foreground tokens, no background, or nothing near and far.

    Over the anchors, foreground tokens with near foreground and far background: mean of the mean cosine with the first
    minus that with the second.
    """
    inside = masks.flatten(1).to(tokens.dtype)
    near = ((distance > 0) & (distance <= reach.near)).to(tokens.dtype)
    far = (distance >= reach.far).to(tokens.dtype)
    scores = _mean_cosine(tokens, inside, near) - _mean_cosine(tokens, 1 - inside, far)
    return torch.where((inside > 0) & (inside.sum(1, keepdim=True) >= 2), scores, torch.nan).nanmean(1)


def mean_score(sample: LatentSample, reach: Reach, centred: bool = False) -> float:
    """Mean over the images that have a score."""
    distance = grid_distances(*sample.latents.shape[2:])
    parts = zip(sample.latents.split(250), known(sample.masks).split(250), strict=True)
    scores = torch.cat([image_scores(unit_tokens(part, centred), masks, distance, reach) for part, masks in parts])
    if scores.isnan().all():
        raise ValueError("srss finds no image with foreground and, far from it, background")
    return float(scores.double().nanmean())


def compute(sample: LatentSample) -> dict[str, float]:
    """Distances on the image; `cells` on the grid, as published; `centred` without each image's mean token."""
    reach = pixel_reach(max(sample.latents.shape[2:]))
    scores = {"score": mean_score(sample, reach), "centred": mean_score(sample, reach, centred=True)}
    return scores | {"cells": mean_score(sample, CELLS)}


SRSS = Predictor(
    name="srss",
    label="foreground structure",
    source="arXiv 2512.10794; arXiv 2606.03578",
    quantities=dict.fromkeys(("score", "centred", "cells"), "higher"),
    compute=compute,
    needs=("masks",),
    min_channels=2,
    min_side=MIN_SIDE,
    invariances=("order", "signs", "rotation", "turn", "scale"),
)

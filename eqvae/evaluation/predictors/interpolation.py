"""Interpolation FID: do points halfway between neighbours decode to images like the others?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor
from eqvae.evaluation.predictors.decoding import decoded_rows, distance_of_decoded, reconstruction_distance


def nearest_others(latents: Tensor, queries: Tensor, among: Tensor) -> Tensor:
    """Row of the latent nearest by cosine to each of the `queries`, `among` others; none is its own neighbour."""
    directions, nearest = F.normalize(latents.flatten(1), dim=1), []
    for rows in queries.split(500):
        likeness = directions[rows] @ directions[among].T
        nearest.append(among[likeness.masked_fill_(rows[:, None] == among, -torch.inf).argmax(1)])
    return torch.cat(nearest)


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Spherical interpolation of latents [N, C, h, w]; their norms mix by the same weights. Parallel ones mix linearly.

    The weights are sin((1 - a) angle) / sin(angle) and sin(a angle) / sin(angle).
    """
    first, second = start.flatten(1).double(), end.flatten(1).double()
    angle = F.cosine_similarity(first, second).clamp(-1, 1).acos()[:, None]
    straight = angle.sin() < 1e-6
    sine = angle.sin().masked_fill(straight, 1)
    weights = [torch.where(straight, part, (part * angle).sin() / sine) for part in (1 - share, share)]
    return (weights[0] * first + weights[1] * second).to(start.dtype).view_as(start)


def compute(sample: LatentSample, share: float = 0.5) -> dict[str, float]:
    """`excess` is above the distance of as many reconstructions, which is what a share of 0 gives.

    Neighbours are the nearest among the sample itself: more images lie nearer, so compare equal numbers only.
    """
    latents, others, rows = sample.latents, sample.different(), decoded_rows(sample)
    if len(others) < 2:
        raise ValueError("interpolation needs two different latents at least")
    distance = distance_of_decoded(sample, slerp(latents[rows], latents[nearest_others(latents, rows, others)], share))
    return {"excess": distance - reconstruction_distance(sample), "fd_efficientnet_lite0": distance}


INTERPOLATION = Predictor(
    name="interpolation",
    label="interpolation FID, on other features",
    source="arXiv 2603.05630",
    quantities={"excess": "lower", "fd_efficientnet_lite0": "lower"},
    compute=compute,
    needs=("features",),
)

"""LNC, local neighbourhood consistency: do the latents nearest to each other show the same thing?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor, known

NEIGHBOURS = (10, 5)


def foreground_means(latents: Tensor, masks: Tensor | None) -> Tensor:
    """Mean vector [N, C] over the foreground [N, h, w]; over all pixels without masks, or where one is empty."""
    if masks is None:
        return latents.mean((2, 3))
    weight = torch.where(masks.any(2).any(1)[:, None, None], masks, True)[:, None].to(latents.dtype)
    return (latents * weight).sum((2, 3)) / weight.sum((2, 3))


def consistency(vectors: Tensor, labels: Tensor, neighbours: int) -> float:
    """Mean share of the nearest others, by cosine of [N, C], that have one's own label."""
    vectors, shares = F.normalize(vectors.double(), dim=1), []
    for rows in torch.arange(len(vectors)).split(1000):
        likeness = vectors[rows] @ vectors.T
        likeness[torch.arange(len(rows)), rows] = -torch.inf
        nearest = likeness.topk(neighbours, dim=1).indices
        shares.append((labels[nearest] == labels[rows, None]).double().mean(1))
    return float(torch.cat(shares).mean())


def chance(labels: Tensor) -> float:
    """What labels that say nothing would give: (n_c - 1) / (N - 1) for classes of n_c images."""
    counts = labels.unique(return_counts=True)[1].double()
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def compute(sample: LatentSample) -> dict[str, float]:
    """Images whose latents repeat another's are left out: a copy would be its own neighbour."""
    vectors = foreground_means(sample.latents, sample.masks)
    kept = sample.different()
    vectors, labels = vectors[kept], known(sample.labels)[kept]
    if len(kept) <= max(NEIGHBOURS):
        raise ValueError(f"lnc needs more than {max(NEIGHBOURS)} different latents, got {len(kept)}")
    shares, expected = [consistency(vectors, labels, k) for k in NEIGHBOURS], chance(labels)
    if expected == 1:
        raise ValueError("lnc needs different latents of two classes at least")
    return {"above_chance": (shares[0] - expected) / (1 - expected), "at_10": shares[0], "at_5": shares[1]}


LNC = Predictor(
    name="lnc",
    label="local neighbourhood consistency",
    source="arXiv 2606.03578",
    quantities=dict.fromkeys(("above_chance", "at_10", "at_5"), "higher"),
    compute=compute,
    needs=("labels",),
    min_channels=2,
    invariances=("order", "labels", "signs", "rotation", "turn", "scale"),
)

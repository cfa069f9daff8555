"""CKNNA: are images that are neighbours in latent space neighbours for a frozen network, too?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor, known
from eqvae.selection import evenly_spaced

NUM_IMAGES, NEIGHBOURS = 2000, 10


def unbiased_hsic(first: Tensor, second: Tensor) -> Tensor:
    """Unbiased Hilbert-Schmidt criterion of kernels [m, m], their diagonals left out (Song et al., 2012, eq. 5).

    It may be negative; rows and columns of masked kernels differ, and products are taken element by element.
    """
    count = len(first)
    first, second = (kernel.clone().fill_diagonal_(0) for kernel in (first, second))
    trace = (first * second).sum()
    totals = first.sum() * second.sum() / ((count - 1) * (count - 2))
    crossed = first.sum(0) @ second.sum(1) * 2 / (count - 2)
    return (trace + totals - crossed) / (count * (count - 3))


def neighbour_alignment(first: Tensor, second: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """CKNNA of rows [m, D] and [m, E] of the same images (Huh et al., 2024): 1 for the same, about 0 for unrelated.

    With every other row a neighbour, it is the unbiased centred kernel alignment.
    """
    kernels = [rows @ rows.T for rows in (F.normalize(each.double(), dim=1) for each in (first, second))]
    masks = []
    for kernel in kernels:
        nearest = kernel.clone().fill_diagonal_(-torch.inf).topk(neighbours, dim=1).indices
        masks.append(torch.zeros_like(kernel).scatter_(1, nearest, 1))
    both = unbiased_hsic(*(masks[0] * masks[1] * kernel for kernel in kernels))
    own = [unbiased_hsic(mask * kernel, mask * kernel) for mask, kernel in zip(masks, kernels, strict=True)]
    return float(both / (own[0] * own[1]).clamp_min(1e-300).sqrt())


def compute(sample: LatentSample) -> dict[str, float]:
    """Of 2,000 images at most: unrelated representations share neighbours by chance, more of fewer images."""
    rows = sample.different()
    rows = rows[evenly_spaced(NUM_IMAGES, len(rows))]
    if len(rows) <= NEIGHBOURS + 1:
        raise ValueError(f"cknna needs more than {NEIGHBOURS + 1} different latents, got {len(rows)}")
    latents, features = sample.latents[rows], known(sample.features)[rows]
    pooled, flat = latents.mean((2, 3)), latents.flatten(1)
    return {"pooled": neighbour_alignment(pooled, features), "flat": neighbour_alignment(flat, features)}


CKNNA = Predictor("cknna", "neighbours shared with a frozen network", "arXiv 2405.07987, appendix A",
                  {"pooled": "higher", "flat": "higher"}, compute, needs=("features",), min_channels=2,
                  invariances=("order", "signs", "rotation", "turn", "scale"))  # fmt: skip

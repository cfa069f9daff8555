"""CKNNA: how alike two representations are, by their nearest neighbours (Huh et al., 2024, arXiv 2405.07987)."""

import torch
import torch.nn.functional as F
from torch import Tensor

NEGLIGIBLE = 1e-20  # of a sum of squares of centred cosines: rounding


def cknna(first: Tensor, second: Tensor, neighbours: int = 10) -> float:
    """Centred kernel alignment restricted to mutual nearest neighbours (Huh et al., appendix A); 1 for the same.

    Rows are normalized, kernels are their inner products, centred by the mean of each row. With alpha(i, j) = 1 where
    j != i is among the k nearest of i in both representations, Align(K, L) = sum alpha K L, and
    CKNNA = Align(K, L) / sqrt(Align(K, K) Align(L, L)). Unrelated representations of N samples give about k / N.

    Args:
        first, second: [N, D] and [N, E], row by row of the same samples.
        neighbours: k.

    Raises:
        ValueError: if the rows are not as many, or not more than k, or all rows of one are the same.
    """
    if len(first) != len(second) or len(first) <= neighbours:
        raise ValueError(
            f"CKNNA of {len(first)} and {len(second)} rows: give as many of both, and more than {neighbours} neighbours"
        )
    (one, near_one), (other, near_other) = (_kernel(rows, neighbours) for rows in (first, second))
    mutual = (one * other)[near_one & near_other].sum()
    own = one[near_one].square().sum(), other[near_other].square().sum()
    if min(map(float, own)) < NEGLIGIBLE:
        raise ValueError("CKNNA of rows that are all the same: give images that differ")
    return float(mutual / (own[0] * own[1]).sqrt())


def _kernel(rows: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Centred kernel [N, N] float64, and which columns are among the nearest of each row."""
    rows = F.normalize(rows.double(), dim=-1)
    kernel = rows @ rows.T
    nearest = kernel.clone().fill_diagonal_(-torch.inf).topk(neighbours, dim=1).indices
    near = torch.zeros_like(kernel, dtype=torch.bool).scatter_(1, nearest, True)
    return kernel - kernel.mean(1, keepdim=True), near

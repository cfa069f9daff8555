"""Squared maximum mean discrepancies of random subsets, with each value of the kernel computed once."""

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**22  # values of the kernel that are held at a time, 32 MB


def discrepancies_of_subsets(first: Tensor, second: Tensor, num_subsets: int, size: int, seed: int) -> Tensor:
    """Unbiased squared discrepancy of each pair of subsets [num_subsets], kernel (x.y / D + 1)^3; where both lie.

    Args:
        first, second: [N, D] and [M, D], float64.
        size: of the subsets, which are those that torch-fidelity's `kid_features_to_metric` draws with this seed.
    """
    draws = np.random.RandomState(seed)
    members = [torch.zeros(num_subsets, len(each), dtype=first.dtype) for each in (first, second)]
    for subset in range(num_subsets):
        for each in members:
            each[subset, torch.from_numpy(draws.choice(each.shape[1], size, replace=False))] = 1
    first_members, second_members = (each.to(first.device) for each in members)
    within = _sums_within(first, first_members) + _sums_within(second, second_members)
    across = _sums(first, second, first_members, second_members)
    return within / (size * (size - 1)) - 2 * across / size**2


def _sums_within(samples: Tensor, members: Tensor) -> Tensor:
    """Of the kernel over all pairs of different members of each subset."""
    return _sums(samples, samples, members, members) - members @ _kernel(samples.square().mean(1))


def _sums(first: Tensor, second: Tensor, first_members: Tensor, second_members: Tensor) -> Tensor:
    """Of the kernel over all pairs of members of each subset."""
    total = first.new_zeros(len(first_members))
    for rows in torch.arange(len(first), device=first.device).split(max(BLOCK // len(second), 1)):
        values = _kernel((first[rows] @ second.T).div_(first.shape[1]))
        total += (first_members[:, rows] @ values).mul_(second_members).sum(1)
    return total


def _kernel(products: Tensor) -> Tensor:
    shifted = products.add_(1)
    return shifted.square().mul_(shifted)

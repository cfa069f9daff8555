"""How much a Fréchet distance owes to the very samples it was measured on: distances of resampled images."""

import numpy as np
from torch import Tensor

from eqvae.evaluation.subsets import SubsetDistances


def resampled_distances(
    reference: dict[str, np.ndarray], features: Tensor, num_resamples: int, seed: int
) -> list[float]:
    """Fréchet distances of `num_resamples` bootstrap samples of the features [N, D] (N draws with replacement).

    The i-th bootstrap sample holds the same image indices for every arm and step, which the arms' equal noise and
    labels make a paired comparison. Repeated images bias each distance upward; use the values only beside each
    other.
    """
    if num_resamples == 0:
        return []
    picks = np.random.default_rng(seed).integers(len(features), size=(num_resamples, len(features)))
    distance_of = SubsetDistances(reference, features)
    return [distance_of(pick) for pick in picks]

"""How much a Fréchet distance owes to the very samples it was measured on: distances of resampled images."""

import numpy as np
from torch import Tensor


def resampled_distances(
    reference: dict[str, np.ndarray], features: Tensor, num_resamples: int, seed: int
) -> list[float]:
    """Fréchet distances of `num_resamples` bootstrap samples of the features [N, D] (N draws with replacement).

    The i-th bootstrap sample holds the same image indices for every arm and step, which the arms' equal noise and
    labels make a paired comparison. Repeated images bias each distance upward; use the values only beside each
    other.
    """
    rows = features.double().numpy()
    picks = np.random.default_rng(seed).integers(len(rows), size=(num_resamples, len(rows)))
    product = _trace_of_root_from_samples if len(rows) <= rows.shape[1] else _trace_of_root_from_covariance
    trace_of_root = product(reference["sigma"], rows)
    return [_distance(reference, rows[pick], trace_of_root(pick)) for pick in picks]


def _distance(reference: dict[str, np.ndarray], features: np.ndarray, trace_of_root: float) -> float:
    """|m - m'|^2 + tr C + tr C' - 2 tr (C C')^1/2, the last trace being given."""
    shift = reference["mu"] - features.mean(axis=0)
    traces = np.trace(reference["sigma"]) + features.var(axis=0, ddof=1).sum()
    return float(shift @ shift + traces - 2 * trace_of_root)


def _trace_of_root_from_samples(covariance: np.ndarray, features: np.ndarray):
    """For few samples: with C' = X' X / (N - 1), tr (C C')^1/2 is the trace of the root of X C X' / (N - 1), N x N."""
    products = features @ covariance @ features.T

    def trace_of_root(pick: np.ndarray) -> float:
        resampled = products[np.ix_(pick, pick)]
        centred = resampled - resampled.mean(axis=0) - resampled.mean(axis=1, keepdims=True) + resampled.mean()
        return _sum_of_roots(centred / (len(pick) - 1))

    return trace_of_root


def _trace_of_root_from_covariance(covariance: np.ndarray, features: np.ndarray):
    """For many samples: with C = A A', tr (C C')^1/2 is the trace of the root of A' C' A, D x D."""
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    projected = features @ (eigenvectors * np.sqrt(np.maximum(eigenvalues, 0)))
    return lambda pick: _sum_of_roots(np.cov(projected[pick], rowvar=False))


def _sum_of_roots(matrix: np.ndarray) -> float:
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(matrix), 0)).sum())

"""Distances between sets of features: Fréchet, kernel, precision and recall. The first set is the real one."""

import warnings

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

KERNEL_SUBSETS, KERNEL_SUBSET_SIZE = 100, 1000


def features_to_statistics(features: Tensor) -> dict[str, np.ndarray]:
    """Mean [D] and unbiased covariance [D, D] of features [N, D], in float64."""
    features = _matrix(features, "features", minimum=2)
    if len(features) < features.shape[1]:
        warnings.warn(
            f"{len(features)} samples for {features.shape[1]} features: the Fréchet distance is biased upward, compare "
            "only results with the same number of samples",
            stacklevel=3,
        )
    # Not torch-fidelity's fid_features_to_statistics: its float64 option yields float32 in release 0.4.0.
    return {"mu": features.mean(axis=0), "sigma": np.cov(features, rowvar=False)}


def statistics_to_frechet_distance(real: dict[str, np.ndarray], generated: dict[str, np.ndarray]) -> float:
    """Fréchet distance of two Gaussians given as `features_to_statistics` does (Heusel et al., 2017, eq. 6)."""
    return float(fid_statistics_to_metric(real, generated, verbose=False)["frechet_inception_distance"])


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """Fréchet distance of two feature sets [N, D] and [M, D]; called FID only on Inception-v3's features."""
    _same_width(real, generated)
    return statistics_to_frechet_distance(features_to_statistics(real), features_to_statistics(generated))


def kernel_distance(real: Tensor, generated: Tensor, seed: int = 0) -> float:
    """Mean kernel distance (KID, Binkowski et al., 2018) over 100 subsets of at most 1000, unbiased, cubic kernel."""
    _same_width(real, generated)
    size = min(KERNEL_SUBSET_SIZE, len(real), len(generated))
    result = kid_features_to_metric(
        _tensor(generated),
        _tensor(real),
        kid_subsets=KERNEL_SUBSETS,
        kid_subset_size=size,
        rng_seed=seed,
        verbose=False,
    )
    return float(result["kernel_inception_distance_mean"])


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019) on k-nearest-neighbour manifolds.

    Precision: share of generated samples inside the real manifold; recall: share of real samples inside the
    generated one.
    """
    _same_width(real, generated)
    for name, features in (("real", real), ("generated", generated)):
        _matrix(features, name, minimum=k + 1)
    result = prc_features_to_metric(_tensor(generated), _tensor(real), prc_neighborhood=k, verbose=False)
    return float(result["precision"]), float(result["recall"])


def _matrix(features: Tensor | np.ndarray, name: str, minimum: int) -> np.ndarray:
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) < minimum:
        raise ValueError(f"{name}: needs a matrix [N, D] of at least {minimum} samples, got {matrix.shape}")
    return matrix


def _same_width(real: Tensor, generated: Tensor) -> None:
    if real.shape[1:] != generated.shape[1:]:
        raise ValueError(f"features do not match: real {tuple(real.shape)}, generated {tuple(generated.shape)}")


def _tensor(features: Tensor | np.ndarray) -> Tensor:
    return torch.as_tensor(features, dtype=torch.float32)

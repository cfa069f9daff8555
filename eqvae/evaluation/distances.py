"""Distances between sets of features: Fréchet, kernel, precision and recall. The first set is the real one."""

import warnings
from typing import Literal

import numpy as np
import torch
from scipy.linalg import get_lapack_funcs
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from eqvae.evaluation.kernels import discrepancies_of_subsets
from eqvae.evaluation.neighbours import samples_in_balls
from eqvae.precision import at_least_float32

Matrix = Tensor | np.ndarray

SCORE_ORDERS = ("given", "shuffled")
ROOT_ERROR = 1e-8  # of the trace of a root, relative


def features_to_statistics(features: Matrix) -> dict[str, np.ndarray]:
    """Mean `mu` [D] and unbiased covariance `sigma` [D, D] of features [N, D], float64; worth keeping for a real set.

    Warns where N <= D: the covariance is singular and the Fréchet distance biased upward.

    Raises:
        ValueError: for fewer than two samples, or for anything but a finite matrix.
    """
    # Not torch-fidelity's fid_features_to_statistics: its float64 option yields float32 in release 0.4.0.
    features = _matrix(features, "features", minimum=2).numpy()
    warn_if_singular(*features.shape)
    return {"mu": features.mean(axis=0), "sigma": np.atleast_2d(np.cov(features, rowvar=False))}


def warn_if_singular(num_samples: int, num_features: int) -> None:
    """Warn where the covariance of so few samples has no full rank."""
    if num_samples <= num_features:
        warnings.warn(
            f"{num_samples} samples for {num_features} features: the Fréchet distance is biased upward, compare "
            "only results with the same number of samples",
            stacklevel=3,
        )


def with_root(statistics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same statistics with `root` [D, rank], the reference's part of every Fréchet distance from them."""
    return statistics | {"root": root_of(statistics)}


def root_of(statistics: dict[str, np.ndarray]) -> np.ndarray:
    """A [D, rank] with A A' = sigma, stored or computed."""
    return statistics["root"] if "root" in statistics else _square_root(statistics["sigma"])


def statistics_to_frechet_distance(real: dict[str, np.ndarray], generated: dict[str, np.ndarray]) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^1/2) of two Gaussians (Heusel et al., 2017, eq. 6).

    Of statistics `with_root` the number is the same to the last bit, a fifth sooner.
    """
    shift = real["mu"] - generated["mu"]
    traces = np.trace(real["sigma"]) + np.trace(generated["sigma"])
    return float(shift @ shift + traces - 2 * _trace_of_root(root_of(real), generated["sigma"]))


def _trace_of_root(root: np.ndarray, generated: np.ndarray) -> float:
    """tr (C C')^1/2 of covariances C = A A', A [D, rank] being given, and C' [D, D].

    It is the sum of the roots of the eigenvalues of A' C' A. Rounding moves an eigenvalue e by about
    1e-16 of the largest, and its root by that over 2 sqrt(e): wrong by 1e-2 for 300 images of 1280 features. Where that
    may exceed ROOT_ERROR, C' = B B' is taken apart too, and the trace is the sum of A' B's singular values.
    """
    eigenvalues = torch.linalg.eigvalsh(torch.from_numpy(root.T @ generated @ root))
    if len(eigenvalues) and eigenvalues[0] > 0:
        roots = eigenvalues.sqrt()
        error = torch.finfo(roots.dtype).eps * eigenvalues[-1] * (0.5 / roots).sum()
        if error <= ROOT_ERROR * roots.sum():
            return float(roots.sum())
    return float(torch.linalg.svdvals(torch.from_numpy(root.T @ _square_root(generated))).sum())


def _square_root(covariance: np.ndarray) -> np.ndarray:
    """A [D, rank] with A A' = covariance, by Cholesky's decomposition with pivots: few samples give few columns."""
    (pstrf,) = get_lapack_funcs(("pstrf",), (covariance,))
    factor, pivots, rank, _ = pstrf(covariance, lower=1)
    root = np.empty((len(covariance), rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return root


def frechet_distance(real: Matrix, generated: Matrix) -> float:
    """Fréchet distance of two feature sets [N, D] and [M, D], float64; called FID only on Inception-v3's features.

    Raises:
        ValueError: for fewer than two samples in a set, or different D.
    """
    _same_width(real, generated)
    return statistics_to_frechet_distance(features_to_statistics(real), features_to_statistics(generated))


CHEAPER = 0.6  # share of the kernel's values that must be enough: on some processors torch's take 1.6 times numpy's


def kernel_distance(
    real: Matrix,
    generated: Matrix,
    num_subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
    return_std: bool = False,
) -> float | tuple[float, float]:
    """Kernel distance (KID, Binkowski et al., 2018): squared MMD, unbiased, kernel (x.y / D + 1)^3.

    Args:
        real, generated: [N, D] and [M, D], N, M >= 4.
        subset_size: of the random subsets; at most half of the smaller set, so that subsets differ.
        seed: of the subsets.
        return_std: return (mean, standard deviation) over the subsets instead of the mean.

    Raises:
        ValueError: for fewer than four samples in a set, or different D.
    """
    _same_width(real, generated)
    real, generated = _checked(real, "real", minimum=4).double(), _checked(generated, "generated", minimum=4).double()
    size = min(subset_size, len(real) // 2, len(generated) // 2)
    mean, std = _kernel_distance(real, generated.to(real.device), num_subsets, size, seed)
    return (mean, std) if return_std else mean


def _kernel_distance(real: Tensor, generated: Tensor, num_subsets: int, size: int, seed: int) -> tuple[float, float]:
    """Mean and standard deviation, with fewer values of the kernel: all there are, or those of each subset anew."""
    pairs = len(real) ** 2 + len(generated) ** 2 + len(real) * len(generated)
    if pairs <= CHEAPER * 3 * num_subsets * size**2:
        found = discrepancies_of_subsets(generated, real, num_subsets, size, seed)
        return float(found.mean()), float(found.std(correction=0))
    settings = {"kid_subsets": num_subsets, "kid_subset_size": size, "rng_seed": seed, "verbose": False}
    result = kid_features_to_metric(generated, real, **settings)
    return result["kernel_inception_distance_mean"], result["kernel_inception_distance_std"]


def inception_score(
    logits: Matrix, num_splits: int = 10, order: Literal["given", "shuffled"] = "given", seed: int = 2020
) -> tuple[float, float]:
    """exp of the mean divergence of p(y | x) from p(y) (Salimans et al., 2016): mean and standard deviation of splits.

    Args:
        logits: [N, K], without bias where ADM's numbers are to be met.
        num_splits: at most N; ten in every published table.
        order: of the images when they are split: as "given", as ADM's evaluation does, or "shuffled", as
            torch-fidelity does.
        seed: of the shuffling.

    Raises:
        ValueError: for fewer than two samples, or another order.
    """
    if order not in SCORE_ORDERS:
        raise ValueError(f"order {order!r} of the Inception score is unknown: use {' or '.join(SCORE_ORDERS)}")
    logits = _matrix(logits, "logits", minimum=2)
    num_splits = min(num_splits, len(logits))
    result = isc_features_to_metric(logits, splits=num_splits, shuffle=order == "shuffled", rng_seed=seed)
    return result["inception_score_mean"], result["inception_score_std"]


def precision_recall(real: Matrix, generated: Matrix, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al., 2019) on k-nearest-neighbour manifolds.

    Precision: share of generated samples inside the real manifold; recall: share of real samples inside the
    generated one. Computed on the device that both lie on; distances are compared in float64.

    Raises:
        ValueError: for k or fewer samples in a set, or different D.
    """
    # Not torch-fidelity's prc_features_to_metric: it takes all distances in float64, those across twice.
    _same_width(real, generated)
    sets = (_checked(real, "real", minimum=k + 1), _checked(generated, "generated", minimum=k + 1))
    in_real, in_generated = samples_in_balls(sets[1].to(sets[0].device), sets[0], k)
    return float(in_real.double().mean()), float(in_generated.double().mean())


def _matrix(features: Matrix, name: str, minimum: int) -> Tensor:
    return _checked(features, name, minimum).cpu().double()


def _checked(features: Matrix, name: str, minimum: int) -> Tensor:
    """A finite matrix, where it lies and in its precision, float32 at least."""
    matrix = at_least_float32(torch.as_tensor(features).detach())
    if matrix.ndim != 2 or len(matrix) < minimum:
        raise ValueError(f"{name}: needs a matrix [N, D] of at least {minimum} samples, got {tuple(matrix.shape)}")
    if not torch.isfinite(matrix).all():
        raise ValueError(f"{name}: holds values that are not finite")
    return matrix


def _same_width(real: Matrix, generated: Matrix) -> None:
    if real.shape[1:] != generated.shape[1:]:
        raise ValueError(f"features do not match: real {tuple(real.shape)}, generated {tuple(generated.shape)}")

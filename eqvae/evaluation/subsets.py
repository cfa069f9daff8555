"""Fréchet distances of many subsets of the same features, and what they tell of infinitely many images."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from eqvae.evaluation.distances import Matrix, root_of

SMALLEST_SHARE = 0.5  # of the images in the smallest subset
NUM_SIZES = 5
NUM_ORDERS = 8
NUM_RESAMPLES = 16
LEAST_IMAGES = 20


class SubsetDistances:
    """Fréchet distances from one reference of subsets of features, with everything that they share computed once.

    With the root A of the reference's covariance, C = A A', and the centred rows X of a subset of n samples, the trace
    of (C C')^1/2 is the sum of the singular values of X A / sqrt(n - 1).

    Args:
        real: statistics of the reference.
        features: [N, D] that subsets are taken of.

    Raises:
        ValueError: for features of another width.
    """

    def __init__(self, real: dict[str, np.ndarray], features: Matrix):
        rows = torch.as_tensor(features).cpu().double()
        if rows.shape[1:] != real["mu"].shape:
            raise ValueError(f"features do not match: real {real['mu'].shape}, generated {tuple(rows.shape)}")
        self._centre = rows.mean(0)
        self._rows = rows - self._centre
        self._squares = self._rows.square().sum(1)
        self._projected = self._rows @ torch.from_numpy(root_of(real))
        self._shift = self._centre - torch.from_numpy(real["mu"])
        self._trace = float(np.trace(real["sigma"]))
        few = len(rows) <= self._projected.shape[1]
        self._products = self._projected @ self._projected.T if few else None

    def __call__(self, rows: np.ndarray) -> float:
        """The distance of the subset with these row numbers [n], which may repeat; n >= 2."""
        return self._distance(rows, self._gram(rows))

    def of_growing(self, order: np.ndarray, sizes: Sequence[int]) -> list[float]:
        """Distances of the first rows of an order, as many as each of the ascending sizes says."""
        rank = self._projected.shape[1]
        sums, products, start = torch.zeros(rank).double(), torch.zeros(rank, rank).double(), 0
        found = []
        for size in sizes:
            if size <= rank:
                found.append(self(order[:size]))
                continue
            added = self._projected[order[start:size]]
            sums, products, start = sums + added.sum(0), products + added.T @ added, size
            found.append(self._distance(order[:size], products - sums.outer(sums) / size))
        return found

    def _gram(self, rows: np.ndarray) -> Tensor:
        """Products of the centred, projected rows of a subset: [n, n] of few, [rank, rank] of many."""
        if self._products is not None:
            gram = self._products[rows][:, rows]
            return gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
        centred = self._projected[rows] - self._projected[rows].mean(0)
        return centred @ centred.T if len(rows) <= centred.shape[1] else centred.T @ centred

    def _distance(self, rows: np.ndarray, gram: Tensor) -> float:
        """|m - m'|^2 + tr C + tr C' - 2 tr (C C')^1/2."""
        count = len(rows)
        moved = self._rows[rows].mean(0)
        scatter = self._squares[rows].sum() - count * moved.square().sum()
        roots = torch.linalg.eigvalsh(gram / (count - 1)).clamp_min(0).sqrt().sum()
        return float((self._shift + moved).square().sum() + self._trace + scatter / (count - 1) - 2 * roots)


def extrapolated_distance(real: dict[str, np.ndarray], generated: Matrix, seed: int = 0) -> tuple[float, float]:
    """Fréchet distance of infinitely many generated images, extrapolated, and its spread.

    The distance of N images exceeds that of their distribution by b / N + O(1 / N^2). So distances of subsets of
    growing size are fitted by a line in 1 / N, whose intercept is the answer: five sizes from N / 2 to N, mean over
    eight random orders of the images. Source: Chong and Forsyth, "Effectively unbiased FID and Inception score", 2020.
    Theirs are 15 sizes from a tenth of the images, which is far from a line where that is fewer than features.

    The reference's own bias stays.

    Args:
        real: statistics of the reference.
        generated: features [N, D], N >= 20.
        seed: of the orders.

    Returns:
        The intercept, and the standard deviation of intercepts, one order each, over 16 bootstrap samples of the
        images. It is too wide, for the intercept itself is a mean over orders, and bootstrap samples hold images twice:
        1.5 times with 50 images per feature, 3.5 times with 6, ten times with one.

    Raises:
        ValueError: for too few images, or features of another width.
    """
    count = len(generated)
    if count < LEAST_IMAGES:
        raise ValueError(f"the extrapolated Fréchet distance needs at least {LEAST_IMAGES} images, got {count}")
    if count <= generated.shape[1]:
        text = f"{count} images for {generated.shape[1]} features: the extrapolated Fréchet distance is rough"
        warnings.warn(text, stacklevel=2)
    distances, draws = SubsetDistances(real, generated), np.random.default_rng(seed)
    sizes = np.linspace(SMALLEST_SHARE * count, count, NUM_SIZES).round().astype(int).tolist()

    def intercept(images: np.ndarray) -> float:
        return _intercept(sizes, distances.of_growing(draws.permutation(images), sizes))

    estimates = [intercept(np.arange(count)) for _ in range(NUM_ORDERS)]
    resampled = [intercept(draws.integers(count, size=count)) for _ in range(NUM_RESAMPLES)]
    return float(np.mean(estimates)), float(np.std(resampled, ddof=1))


def _intercept(sizes: Sequence[int], distances: Sequence[float]) -> float:
    """Where a line of distances over 1 / size meets 0, by least squares."""
    return float(np.polyfit(1 / np.asarray(sizes, float), distances, 1)[1])

"""Density and uniformity of single latent pixels: how evenly their vectors [C] fill the space they lie in."""

import numpy as np
import torch
from scipy.stats import gaussian_kde
from torch import Tensor

from eqvae.evaluation.latents import nearest_distances
from eqvae.evaluation.predictors.base import LatentSample, Predictor, white_noise
from eqvae.evaluation.predictors.principal import principal_directions
from eqvae.randomness import keyed_integers

COMPONENTS, NEIGHBOURS = 8, 10


def gini(densities: np.ndarray) -> float:
    """Gini coefficient: 0 for equal densities, 1/3 for uniform ones, 1/2 for exponential ones."""
    ordered, count = np.sort(densities), len(densities)
    return float((2 * np.arange(1, count + 1) - count - 1) @ ordered / (count * ordered.sum()))


def normalized_entropy(densities: np.ndarray) -> float:
    """-sum p log p / log n of p = density / sum; 1 for equal densities."""
    share = densities / densities.sum()
    return float(-(share @ np.log(np.maximum(share, 1e-300))) / np.log(len(share)))


def log_spread(points: Tensor) -> float:
    """Standard deviation over points [N, D] of the log-density, -D log(distance to the tenth neighbour) + constant."""
    return points.shape[1] * float(nearest_distances(points, min(NEIGHBOURS, len(points) - 1))[:, -1].log().std())


def compute(sample: LatentSample) -> dict[str, float]:
    """One pixel of each image. A Gaussian's spread grows with its dimensions, so it is set against white noise.

    Entropy, variation and Gini are of a kernel density estimate (Scott) on the first two principal coordinates, where
    the published ones are on a t-SNE plane, which moves points to even out their density.
    """
    vectors, rows = sample.latents.flatten(2), torch.arange(len(sample.latents))
    vectors = vectors[rows, :, keyed_integers(rows, vectors.shape[2], seed=0, stream="density")].double()
    points = vectors @ principal_directions(vectors, COMPONENTS)
    if points.shape[1] == 0:
        raise ValueError("density needs latents that vary from image to image")
    plane = points[:, :2].T.numpy()
    densities = gaussian_kde(plane)(plane)
    spread = log_spread(points) / log_spread(white_noise(*points.shape, dtype=torch.float64))
    entropy, variation = normalized_entropy(densities), float(densities.std() / densities.mean())
    return {"spread_of_white": spread, "entropy": entropy, "variation": variation, "gini": gini(densities)}


DENSITY = Predictor(
    name="density",
    label="density and uniformity",
    source="arXiv 2501.01423, table 5",
    quantities={"spread_of_white": "lower", "entropy": "higher", "variation": "lower", "gini": "lower"},
    compute=compute,
    invariances=("signs", "rotation", "scale"),
)

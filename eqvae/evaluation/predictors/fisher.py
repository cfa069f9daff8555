"""Fisher geometry: how fast noise hides latents, from the spectra of their covariance within classes."""

import math

from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor
from eqvae.evaluation.predictors.kronecker import class_spectra, white_spectrum

SMALLEST_NOISE, LARGEST_NOISE = 0.1, 10.0


def information(eigenvalues: Tensor) -> float:
    """Mean over dimensions and log sigma of sigma^2 J(sigma), the Fisher information of y = x + sigma n, in [0, 1].

    For a Gaussian J = sum 1 / (l + sigma^2), and by Tweedie MMSE = sigma^2 (d - sigma^2 J).
    """
    low, high = SMALLEST_NOISE**2, LARGEST_NOISE**2
    return float(((eigenvalues + high) / (eigenvalues + low)).log().mean()) / math.log(high / low)


def information_rate(eigenvalues: Tensor) -> float:
    """Mean over dimensions and log sigma of -sigma^4 dJ/dsigma^2 = sum (sigma^2 / (l + sigma^2))^2, in [0, 1]."""
    low, high = SMALLEST_NOISE**2, LARGEST_NOISE**2
    ends = eigenvalues / (eigenvalues + high) - eigenvalues / (eigenvalues + low)
    return information(eigenvalues) + float(ends.mean()) / math.log(high / low)


def error_rate(eigenvalues: Tensor) -> float:
    """Mean over dimensions and log sigma of dMMSE/dsigma^2 = sum (l / (l + sigma^2))^2, in [0, 1]."""
    return 1 - 2 * information(eigenvalues) + information_rate(eigenvalues)


def compute(sample: LatentSample) -> dict[str, float]:
    """Classes are weighted by their images; `of_white` as in `viv`: few images give spectra too spread."""
    shape, spectra = sample.latents.shape[1:], class_spectra(sample)
    images = sum(count for count, _ in spectra)
    values = {}
    for name, measure in (("error_rate", error_rate), ("information", information), ("rate", information_rate)):
        raw = sum(count * measure(spectrum) for count, spectrum in spectra) / images
        white = sum(count * measure(white_spectrum(count, *shape)) for count, _ in spectra) / images
        values |= {f"{name}_of_white": raw / white, name: raw}
    return values


FISHER = Predictor(
    name="fisher",
    label="Fisher geometry",
    source="arXiv 2604.02751, from first principles",
    quantities=dict.fromkeys(
        (f"{name}{ending}" for name in ("error_rate", "information", "rate") for ending in ("_of_white", "")), "open"
    ),
    compute=compute,
    needs=("labels",),
    invariances=("order", "labels", "signs", "rotation", "turn"),
)

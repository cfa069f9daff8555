"""VIV, velocity irreducible variance: how much of the velocity no generator can know."""

import math

from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor
from eqvae.evaluation.predictors.kronecker import class_spectra, pooled_spectrum, white_spectrum


def spectrum_to_variance(eigenvalues: Tensor) -> float:
    """Mean over dimensions of the velocity's variance given (x_t, t), over t ~ U(0, 1).

    On the path x_t = t x_1 + (1 - t) x_0 with x_1 ~ N(mu, Sigma) the variance left of v = x_1 - x_0 is
    sum_i l_i / ((1 - t)^2 + t^2 l_i) for the eigenvalues l_i of Sigma, whose integral over t is pi/2 sum_i sqrt(l_i).
    """
    return math.pi / 2 * float(eigenvalues.sqrt().mean())


def compute(sample: LatentSample) -> dict[str, float]:
    """Classes are weighted by their images, so that raw <= pi/2 sqrt(within-class variance).

    `of_white` divides by what white noise of the same classes and shape is measured to have: with few images for many
    dimensions the estimate itself lies far below pi/2. `pooled_of_white` takes one covariance for all classes.
    """
    if len(sample.different()) < 2:
        raise ValueError("viv needs two different latents at least")
    shape, spectra = sample.latents.shape[1:], class_spectra(sample)
    images = sum(count for count, _ in spectra)
    raw = sum(count * spectrum_to_variance(spectrum) for count, spectrum in spectra) / images
    white = sum(count * spectrum_to_variance(white_spectrum(count, *shape)) for count, _ in spectra) / images
    pooled_images, pooled = pooled_spectrum(sample)
    within = sum(count * float(spectrum.mean()) for count, spectrum in spectra) / images
    total = float(sample.latents.var(0).double().mean())
    noise = 0.0 if sample.noise is None else float(sample.noise.mean())  # added: drawing it would add error
    return {
        "of_white": raw / white,
        "pooled_of_white": spectrum_to_variance(pooled) / spectrum_to_variance(white_spectrum(pooled_images, *shape)),
        "raw": raw,
        "within_share": within / total,
        "within_share_of_samples": (within + noise) / (total + noise),
    }


VIV = Predictor(
    name="viv",
    label="velocity irreducible variance",
    source="arXiv 2606.03578, eq. 1-6",
    quantities=dict.fromkeys(
        ("of_white", "pooled_of_white", "raw", "within_share", "within_share_of_samples"), "lower"
    ),
    compute=compute,
    needs=("labels",),
    invariances=("order", "labels", "signs", "rotation", "turn"),
)

"""Spectral slope: how fast power falls with spatial frequency; about -2 for natural images, 0 for white noise."""

import torch
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor
from eqvae.evaluation.predictors.cosine_transform import COMMON_SIDE, sample_powers

ROUNDING = 1e-12  # share of squares that float32 latents cannot tell from none


def spectral_slope(power: Tensor) -> float:
    """Least squares of log mean power of a ring on its log frequency; power [h, w] of a cosine transform.

    Rings lie at 1 ... h - 1 half cycles per image: the constant and the corners beyond Nyquist are left out.
    """
    side = min(power.shape)
    vertical, horizontal = (torch.arange(n, dtype=torch.float64) * side / n for n in power.shape)
    radius = torch.hypot(vertical[:, None], horizontal)
    rings = [(radius.round() == ring) for ring in range(1, side)]
    frequency = torch.stack([radius[ring].log().mean() for ring in rings])
    level = torch.stack([power[ring].mean() for ring in rings]).clamp_min(1e-300).log()
    centred = frequency - frequency.mean()
    return float(centred @ level / centred.square().sum())


def _common_band(power: Tensor) -> Tensor:
    """The lowest frequencies of [h, w], up to eight half cycles on the shorter side and as fine ones on the longer."""
    height, width = (min(n, COMMON_SIDE * n // min(power.shape)) for n in power.shape)
    return power[:height, :width]


def compute(sample: LatentSample) -> dict[str, float]:
    """`common_band` fits the lowest eight half cycles per (shorter) side alone, which every grid of 8 x 8 has.

    `of_samples` adds the posterior's noise, which is white and flattens the slope.
    """
    means, samples = sample_powers(sample)
    if float(means.sum() - means[0, 0]) <= ROUNDING * float(means.sum()):
        raise ValueError("slope needs latents that vary over an image")
    return {
        "slope": spectral_slope(means),
        "common_band": spectral_slope(_common_band(means)),
        "of_samples": spectral_slope(samples),
    }


SLOPE = Predictor(
    name="slope",
    label="spectral slope",
    source="arXiv 2502.14831",
    quantities=dict.fromkeys(("slope", "common_band", "of_samples"), "lower"),
    compute=compute,
    min_side=4,
    invariances=("order", "signs", "rotation", "turn", "scale"),
)

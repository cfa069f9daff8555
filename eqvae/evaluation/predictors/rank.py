"""Effective rank: how many directions carry the variance of channels, and of whole latents."""

from torch import Tensor

from eqvae.evaluation.latents import latents_to_spectrum, spectrum_to_effective_rank
from eqvae.evaluation.predictors.base import LatentSample, Predictor, white_noise

NUM_IMAGES = 2000


def participation_ratio(spectrum: Tensor) -> float:
    """(sum l)^2 / sum l^2, at most the effective rank; both are d for d equal eigenvalues."""
    return float(spectrum.sum().square() / spectrum.square().sum())


def compute(sample: LatentSample) -> dict[str, float]:
    """Channels as shares of their number; whole latents, of at most 2,000 images, as shares of white noise's.

    The rank of whole latents is capped by images - 1 and lowered by the spread of sample eigenvalues; so is that of
    white noise of the same number and shape.
    """
    channels = latents_to_spectrum(sample.few(NUM_IMAGES), of="channels")
    latents = sample.few(NUM_IMAGES)
    rank = spectrum_to_effective_rank(latents_to_spectrum(latents, of="latents"))
    white = spectrum_to_effective_rank(latents_to_spectrum(white_noise(*latents.shape), of="latents"))
    return {
        "channels_share": spectrum_to_effective_rank(channels) / len(channels),
        "participation_share": participation_ratio(channels) / len(channels),
        "log10_condition": float((channels[-1] / channels[0].clamp_min(channels[-1] * 1e-15)).log10()),
        "latents_of_white": rank / white,
        "latents": rank,
    }


RANK = Predictor(
    name="rank",
    label="effective rank",
    source="Roy and Vetterli, 2007",
    quantities=dict.fromkeys(
        ("channels_share", "participation_share", "log10_condition", "latents_of_white", "latents"), "open"
    ),
    compute=compute,
    invariances=("order", "signs", "rotation", "turn", "scale"),
)

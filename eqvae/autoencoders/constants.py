"""A latent normalization in the words of diffusers' configs.

Pipelines of diffusers normalize in one of two ways:

- z scaling_factor, or (z - shift_factor) scaling_factor: Stable Diffusion 1 to 3, DiT, and its training scripts;
- (z - latents_mean) scaling_factor / latents_std, per channel, where a config has these lists: Stable Diffusion XL.

The second is exact for any normalization. A scalar can only approximate one that differs between channels:
`scaling_factor` is then 1 / std over all latents, as diffusers documents it, and `shift_factor` their mean.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from eqvae.autoencoders.normalization import Normalization


def to_constants(normalization: Normalization) -> dict[str, Any]:
    """Entries of a diffusers config that mean a normalization; a list or shift that says nothing is None."""
    shift, scale = normalization.shift, normalization.scale
    if len(set(shift)) == 1 and len(set(scale)) == 1:
        scalars = {"scaling_factor": scale[0], "shift_factor": shift[0] or None}
        return scalars | {"latents_mean": None, "latents_std": None}
    mean = fmean(shift)
    variance = fmean(each**-2 + (own - mean) ** 2 for each, own in zip(scale, shift, strict=True))
    factor = variance**-0.5
    scalars = {"scaling_factor": factor, "shift_factor": mean}
    return scalars | {"latents_mean": list(shift), "latents_std": [factor / each for each in scale]}


def from_constants(config: Mapping[str, Any]) -> Normalization:
    """What a diffusers config normalizes by: its lists where it has both, else its scalars.

    Raises:
        ValueError: for constants that are no normalization.
    """
    scalar = Normalization((config.get("shift_factor") or 0.0,), (config["scaling_factor"],))
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return scalar
    try:
        divisors = Normalization(mean, std).scale  # refuses a std that is none
    except ValueError as error:
        raise ValueError(f"latents_mean, latents_std: {error}") from None
    return Normalization(mean, tuple(scalar.scale[0] / each for each in divisors))

"""A latent normalization in the words of diffusers' configs.

Pipelines of diffusers normalize in one of two ways:

- z scaling_factor, or (z - shift_factor) scaling_factor: Stable Diffusion 1 to 3, DiT, and its training scripts;
- (z - latents_mean) scaling_factor / latents_std, per channel, where a config has these lists: Stable Diffusion XL,
  LTX, Mochi; the factor is 1 where a class has none: Qwen-Image, Wan.

The second is exact for any normalization. A scalar can only approximate one that differs between channels:
`scaling_factor` is then 1 / std over all latents, as diffusers documents it, and `shift_factor` their mean.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from eqvae.autoencoders.normalization import Normalization

LISTS = ("latents_mean", "latents_std")
UNKNOWN = {"scaling_factor": None}


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


def to_lists(normalization: Normalization, channels: int) -> dict[str, Any]:
    """The same for classes that always have lists; a factor is 1."""
    spread = channels // len(normalization.scale)  # a single number is that of all channels
    mean, scale = normalization.shift * spread, normalization.scale * spread
    return {"scaling_factor": 1.0, "latents_mean": list(mean), "latents_std": [1 / each for each in scale]}


def from_constants(config: Mapping[str, Any]) -> Normalization | None:
    """What a diffusers config normalizes by: its lists where it has both, else its scalars; None where it has neither.

    Raises:
        ValueError: for constants that are no normalization.
    """
    mean, std, factor = (config.get(name) for name in (*LISTS, "scaling_factor"))
    if mean is None or std is None:
        return None if factor is None else Normalization((config.get("shift_factor") or 0.0,), (factor,))
    (scale,) = Normalization(scale=(1.0 if factor is None else factor,)).scale
    try:
        divisors = Normalization(mean, std).scale  # refuses a std that is none
    except ValueError as error:
        raise ValueError(f"latents_mean, latents_std: {error}") from None
    return Normalization(mean, tuple(scale / each for each in divisors))

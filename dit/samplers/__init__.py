"""Samplers: from noise to normalized latents or tokens, all by one call, a key per image, a callback each step.

`sample` picks one of `SAMPLERS` by name; each says which objectives it serves, its own settings and whether it draws
noise. `SamplingSettings` are all settings of a generation. `image_noise` and `step_noise` key all randomness by image
index, so that an image does not depend on the batch or device it is made in. `guide` binds labels and guidance to a
backbone beforehand.
"""

from typing import TYPE_CHECKING

from eqvae.lazy import pass_on

if TYPE_CHECKING:
    from dit.samplers.counting import CountingModel
    from dit.samplers.ddpm import leading_timesteps
    from dit.samplers.guidance import guide
    from dit.samplers.noise import image_noise, step_noise
    from dit.samplers.own_settings import (
        AdaptiveSettings,
        DiffusionSettings,
        FlowSettings,
        StochasticSettings,
        TokenSettings,
    )
    from dit.samplers.registry import SAMPLERS, find_sampler, sample
    from dit.samplers.sampler import Sampler
    from dit.samplers.settings import SamplingSettings

__all__ = [
    "SAMPLERS",
    "AdaptiveSettings",
    "CountingModel",
    "DiffusionSettings",
    "FlowSettings",
    "Sampler",
    "SamplingSettings",
    "StochasticSettings",
    "TokenSettings",
    "find_sampler",
    "guide",
    "image_noise",
    "leading_timesteps",
    "sample",
    "step_noise",
]

__getattr__, __dir__ = pass_on(
    __name__,
    {
        "SAMPLERS": "dit.samplers.registry",
        "AdaptiveSettings": "dit.samplers.own_settings",
        "CountingModel": "dit.samplers.counting",
        "DiffusionSettings": "dit.samplers.own_settings",
        "FlowSettings": "dit.samplers.own_settings",
        "Sampler": "dit.samplers.sampler",
        "SamplingSettings": "dit.samplers.settings",
        "StochasticSettings": "dit.samplers.own_settings",
        "TokenSettings": "dit.samplers.own_settings",
        "find_sampler": "dit.samplers.registry",
        "guide": "dit.samplers.guidance",
        "image_noise": "dit.samplers.noise",
        "leading_timesteps": "dit.samplers.ddpm",
        "sample": "dit.samplers.registry",
        "step_noise": "dit.samplers.noise",
    },
)

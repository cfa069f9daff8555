"""Samplers: from noise to normalized latents or tokens, all by one call, a key per image, a callback each step.

`sample` picks one of `SAMPLERS` by name; each says which objectives it serves, its own settings and whether it draws
noise. `SamplingSettings` are all settings of a generation. `image_noise` and `step_noise` key all randomness by image
index, so that an image does not depend on the batch or device it is made in. `guide` binds labels and guidance to a
backbone beforehand.
"""

from dit.samplers.counting import CountingModel
from dit.samplers.ddpm import DiffusionSettings, leading_timesteps
from dit.samplers.guidance import guide
from dit.samplers.masked import TokenSettings
from dit.samplers.noise import image_noise, step_noise
from dit.samplers.ode import AdaptiveSettings, FlowSettings
from dit.samplers.registry import SAMPLERS, find_sampler, sample
from dit.samplers.sampler import Sampler
from dit.samplers.sde import StochasticSettings
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

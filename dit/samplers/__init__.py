"""Samplers: plain functions from noise to normalized latents or tokens, a key per image, a callback each step.

`sample` picks one by name. `image_noise` and `step_noise` key all randomness by image index, so that a picture does
not depend on the batch or device it is made in. `guide` binds labels and guidance to a backbone beforehand.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from dit.objectives import Diffusion, Flow, MaskedTokens, Objective, space_timesteps
from dit.samplers.counting import CountingModel
from dit.samplers.ddpm import ddim, ddpm
from dit.samplers.dpm import dpm_solver
from dit.samplers.guidance import guide
from dit.samplers.masked import TokenSettings, confidence, halton
from dit.samplers.ode import adaptive, euler, heun, midpoint, repa_heun, time_grid
from dit.samplers.sde import StochasticSettings, euler_maruyama, stochastic_heun
from eqvae.randomness import fold_keys, keyed_normal

ODE_SAMPLERS = {"euler": euler, "heun": heun, "midpoint": midpoint, "adaptive": adaptive, "repa_heun": repa_heun}
SDE_SAMPLERS = {"euler_maruyama": euler_maruyama, "stochastic_heun": stochastic_heun}
TOKEN_SAMPLERS = {"confidence": confidence, "halton": halton}
SAMPLERS = {
    **dict.fromkeys((*ODE_SAMPLERS, *SDE_SAMPLERS), Flow),
    **dict.fromkeys(("ddpm", "ddim", "dpm_solver"), Diffusion),
    **dict.fromkeys(TOKEN_SAMPLERS, MaskedTokens),
}  # and the objective that each goes with

__all__ = [
    "SAMPLERS",
    "CountingModel",
    "StochasticSettings",
    "TokenSettings",
    "adaptive",
    "confidence",
    "ddim",
    "ddpm",
    "dpm_solver",
    "euler",
    "euler_maruyama",
    "guide",
    "halton",
    "heun",
    "image_noise",
    "leading_timesteps",
    "midpoint",
    "repa_heun",
    "sample",
    "step_noise",
    "stochastic_heun",
]


def image_noise(indices: Tensor, shape: tuple[int, ...], seed: int) -> Tensor:
    """Starting noise [B, *shape] of images by their indices [B]."""
    return keyed_normal(indices, shape, seed=seed, stream="image-noise")


def step_noise(indices: Tensor, shape: tuple[int, ...], seed: int) -> Callable[[int], Tensor]:
    """Noise of each sampling step, [B, *shape], by image indices [B]."""
    return lambda step: keyed_normal(fold_keys(step, indices), shape, seed=seed, stream="step-noise")


def leading_timesteps(num_timesteps: int, num_inference_steps: int) -> list[int]:
    """0, s, 2 s, ... for the stride s = num_timesteps // num_inference_steps: diffusers' spacing "leading".

    Raises:
        ValueError: if there are fewer timesteps than steps.
    """
    if not 1 <= num_inference_steps <= num_timesteps:
        raise ValueError(f"num_inference_steps {num_inference_steps}: use 1 to {num_timesteps}")
    stride = num_timesteps // num_inference_steps
    return list(range(0, num_inference_steps * stride, stride))


TIMESTEP_SPACINGS = {"linspace": space_timesteps, "leading": leading_timesteps}


def sample(
    objective: Objective,
    model: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    sampler: str = "heun",
    num_inference_steps: int = 50,
    step_noise: Callable[[int], Tensor] | None = None,
    callback: Callable[[int, Tensor, float], None] | None = None,
    stochastic: StochasticSettings | None = None,
    timestep_spacing: Literal["linspace", "leading"] = "linspace",
    tokens: TokenSettings | None = None,
    timestep_shift: float = 1.0,
) -> Tensor:
    """Normalized latents [B, C, h, w], or tokens [B, h, w] int64, from noise of that shape.

    Args:
        objective: what the model was trained with.
        model: `model(x, t)`, labels and guidance bound by `guide`.
        sampler: a key of `SAMPLERS`. Flow: "euler", "heun", "midpoint", "adaptive", "repa_heun" (no randomness),
            "euler_maruyama", "stochastic_heun". Diffusion: "ddpm", or "ddim" and "dpm_solver" (no randomness). Tokens:
            "confidence", "halton".
        num_inference_steps: steps; Heuns and midpoint evaluate the model twice in each, "adaptive" as it likes.
        step_noise: noise of each step, for the samplers with randomness.
        callback: called with step, x and time after each step.
        stochastic: of "euler_maruyama" and "stochastic_heun"; the published settings if None.
        timestep_spacing: of diffusion timesteps, in diffusers' words: "linspace" with both ends and rounding (the
            public DiT), or "leading", whole strides from 0 (the exported pipeline).
        tokens: of "confidence" and "halton"; the defaults if None.
        timestep_shift: of the times of ODE samplers, see `time_grid`; 1 leaves them even.

    Raises:
        ValueError: if the sampler or spacing is unknown, the sampler does not fit the objective or lacks its noise, or
            without steps.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r} is unknown: use one of {', '.join(SAMPLERS)}")
    if not isinstance(objective, SAMPLERS[sampler]):
        fitting = ", ".join(name for name, fits in SAMPLERS.items() if isinstance(objective, fits))
        raise ValueError(f"sampler {sampler!r} does not fit a {type(objective).__name__} model: use one of {fitting}")
    if timestep_spacing not in TIMESTEP_SPACINGS:
        raise ValueError(f"timestep_spacing {timestep_spacing!r} is unknown: use {' or '.join(TIMESTEP_SPACINGS)}")
    if timestep_spacing != "linspace" and not isinstance(objective, Diffusion):
        raise ValueError(f"timestep_spacing {timestep_spacing} is for diffusion models: leave it out")
    if stochastic is not None and sampler not in SDE_SAMPLERS:
        raise ValueError(f"sampler {sampler!r} takes no stochastic settings: use {' or '.join(SDE_SAMPLERS)}")
    if timestep_shift != 1.0 and (sampler not in ODE_SAMPLERS or sampler == "adaptive"):
        raise ValueError(f"sampler {sampler!r} takes no timestep shift: use euler, heun or midpoint")
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}")
    if step_noise is None and sampler in (*SDE_SAMPLERS, *TOKEN_SAMPLERS, "ddpm"):
        raise ValueError(f"sampler {sampler!r} adds noise at each step: give step_noise")
    if sampler in TOKEN_SAMPLERS:
        settings = tokens or TokenSettings()
        return TOKEN_SAMPLERS[sampler](model, noise, num_inference_steps, step_noise, settings, callback)
    if sampler in SDE_SAMPLERS:
        return SDE_SAMPLERS[sampler](objective, model, noise, num_inference_steps, step_noise, stochastic, callback)
    if sampler in ODE_SAMPLERS:
        times = time_grid(*objective.sampling_interval, num_inference_steps, timestep_shift)
        return ODE_SAMPLERS[sampler](
            lambda x, t, *guided_at: objective.velocity(model(x, t, *guided_at), x, t), noise, times, callback
        )
    if sampler == "dpm_solver":
        return dpm_solver(model, noise, objective, num_inference_steps, timestep_spacing, callback)
    timesteps = TIMESTEP_SPACINGS[timestep_spacing](objective.num_timesteps, num_inference_steps)
    if sampler == "ddim":
        return ddim(model, noise, objective, timesteps, callback)
    return ddpm(model, noise, objective, timesteps, step_noise, callback)

"""Samplers: plain functions from noise to normalized latents, a key per image, a callback each step.

`sample` picks one by name. `image_noise` and `step_noise` key all randomness by image index, so that a picture does
not depend on the batch or device it is made in.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dit.objectives import Diffusion, Flow, Objective
from dit.samplers.ddpm import ddpm, spaced_timesteps
from dit.samplers.guidance import guide
from dit.samplers.ode import euler, heun, midpoint
from eqvae.training.randomness import fold_keys, keyed_normal

ODE_SAMPLERS = {"euler": euler, "heun": heun, "midpoint": midpoint}
SAMPLERS = (*ODE_SAMPLERS, "ddpm")

__all__ = [
    "SAMPLERS",
    "ddpm",
    "euler",
    "guide",
    "heun",
    "image_noise",
    "midpoint",
    "sample",
    "spaced_timesteps",
    "step_noise",
]


def image_noise(indices: Tensor, shape: tuple[int, ...], seed: int) -> Tensor:
    """Starting noise [B, *shape] of images by their indices [B]."""
    return keyed_normal(indices, shape, seed=seed, stream="image-noise")


def step_noise(indices: Tensor, shape: tuple[int, ...], seed: int) -> Callable[[int], Tensor]:
    """Noise of each sampling step, [B, *shape], by image indices [B]."""
    return lambda step: keyed_normal(fold_keys(step, indices), shape, seed=seed, stream="step-noise")


def sample(
    objective: Objective,
    model: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    sampler: str = "heun",
    num_inference_steps: int = 50,
    step_noise: Callable[[int], Tensor] | None = None,
    callback: Callable[[int, Tensor, float], None] | None = None,
) -> Tensor:
    """Normalized latents [B, C, h, w] from noise of that shape.

    Args:
        objective: what the model was trained with.
        model: `model(x, t)`, labels and guidance bound by `guide`.
        sampler: "euler", "heun" or "midpoint" (flow), "ddpm" (diffusion).
        num_inference_steps: steps; Heun and midpoint evaluate the model twice in each.
        step_noise: noise of each step, for "ddpm".

    Raises:
        ValueError: if the sampler does not fit the objective.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r} is unknown: use one of {', '.join(SAMPLERS)}")
    if isinstance(objective, Diffusion) != (sampler == "ddpm"):
        raise ValueError(
            f"sampler {sampler!r} does not fit a {type(objective).__name__} model: ddpm goes with Diffusion"
        )
    if isinstance(objective, Diffusion):
        return ddpm(model, noise, objective, num_inference_steps, step_noise, callback)
    assert isinstance(objective, Flow)
    times = torch.linspace(*objective.sampling_interval, num_inference_steps + 1, dtype=torch.float64)
    return ODE_SAMPLERS[sampler](lambda x, t: objective.velocity(model(x, t), x, t), noise, times, callback)

"""Ancestral diffusion sampling in DiT's settings: respaced timesteps, learned variance, x_0 not clipped.

diffusers' DDPMScheduler takes the same steps, but draws its noise from a generator in the order of use; ours is keyed
by image, so that no batch size changes a picture. A test holds the two against each other.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dit.objectives.diffusion import Diffusion

Model = Callable[[Tensor, Tensor], Tensor]


def spaced_timesteps(num_timesteps: int, num_inference_steps: int) -> list[int]:
    """Evenly spaced with rounding, both ends included, ascending (the public respacing of one section)."""
    if not 1 < num_inference_steps <= num_timesteps:
        raise ValueError(f"num_inference_steps must lie in 2 ... {num_timesteps}, got {num_inference_steps}")
    stride = (num_timesteps - 1) / (num_inference_steps - 1)
    return [round(index * stride) for index in range(num_inference_steps)]


def ddpm(
    model: Model,
    x: Tensor,
    objective: Diffusion,
    num_inference_steps: int,
    step_noise: Callable[[int], Tensor],
    callback: Callable[[int, Tensor, float], None] | None = None,
) -> Tensor:
    """Sample by the model's reverse steps.

    Args:
        model: `model(x, t)` with integer timesteps t [B] of the full diffusion, predicting [B, 2 C, h, w] (C channels
            where the variance is not learned).
        x: [B, C, h, w] standard normal.
        step_noise: noise [B, C, h, w] of step 0, 1, ...; the last step draws none.
        callback: called with step, x and timestep after each step.
    """
    timesteps = spaced_timesteps(objective.num_timesteps, num_inference_steps)
    spaced = objective.respaced(timesteps)
    for step, index in enumerate(reversed(range(len(timesteps)))):
        timestep = timesteps[index]
        output = model(x, torch.full((len(x),), timestep, device=x.device))
        reverse = spaced.p_posterior(output, x, torch.full((len(x),), index, device=x.device))
        x = reverse.mean
        if index > 0:
            x = x + (0.5 * reverse.log_variance).exp() * step_noise(step)
        if callback is not None:
            callback(step, x, timestep)
    return x

"""DPM-Solver++ of second order (Lu et al., 2022, arXiv 2211.01095) through diffusers' scheduler."""

from collections.abc import Callable

from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from dit.objectives.diffusion import Diffusion
from dit.samplers.times import filled

Model = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, float], None]


def dpm_solver(
    model: Model,
    x: Tensor,
    objective: Diffusion,
    num_inference_steps: int,
    timestep_spacing: str = "linspace",
    callback: Callback | None = None,
) -> Tensor:
    """Deterministic sampling, two steps of memory, one evaluation each; a learned variance goes unused.

    Args:
        model: `model(x, t)` with integer timesteps t [B], predicting noise in its first C channels.
        x: [B, C, h, w] standard normal.
        num_inference_steps: fewer than the diffusion has timesteps.
        timestep_spacing: diffusers' own, which leaves out the last timestep: "linspace" or "leading".
        callback: called with step, x and timestep after each step.

    Raises:
        ValueError: for as many steps as timesteps or more.
    """
    if num_inference_steps >= objective.num_timesteps:
        raise ValueError(
            f"num_inference_steps {num_inference_steps}: dpm_solver takes 1 to {objective.num_timesteps - 1}"
        )
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=objective.num_timesteps,
        trained_betas=objective.betas.tolist(),
        timestep_spacing=timestep_spacing,
    )
    scheduler.set_timesteps(num_inference_steps)  # on the processor, where the scheduler looks steps up
    for step, timestep in enumerate(scheduler.timesteps.tolist()):
        output = model(x, filled(timestep, x)).float()
        x = scheduler.step(output[:, : x.shape[1]], timestep, x).prev_sample
        if callback is not None:
            callback(step, x, timestep)
    return x

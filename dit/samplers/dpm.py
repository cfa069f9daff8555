"""DPM-Solver++ of second order (Lu et al., 2022, arXiv 2211.01095) through diffusers' scheduler."""

from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from dit.objectives.diffusion import Diffusion
from dit.samplers.ddpm import warn_of_late_start
from dit.samplers.own_settings import DiffusionSettings
from dit.samplers.sampler import Callback, Model, Sampler, StepNoise
from dit.samplers.times import filled


def require_steps(
    diffusion: Diffusion, num_inference_steps: int, settings: DiffusionSettings, num_places: int | None
) -> None:
    """Refuse as many steps as timesteps or more; warn where leading spacing begins late."""
    if num_inference_steps >= diffusion.num_timesteps:
        raise ValueError(
            f"num_inference_steps {num_inference_steps}: dpm_solver takes 1 to {diffusion.num_timesteps - 1}"
        )
    if settings.timestep_spacing == "leading":
        first = num_inference_steps * (diffusion.num_timesteps // (num_inference_steps + 1))
        warn_of_late_start(first, diffusion.num_timesteps, num_inference_steps)


def dpm_solver(
    diffusion: Diffusion,
    model: Model,
    x: Tensor,
    num_inference_steps: int,
    step_noise: StepNoise | None,
    settings: DiffusionSettings,
    callback: Callback,
) -> Tensor:
    """Deterministic sampling, two steps of memory, one evaluation each; a learned variance goes unused.

    The model predicts noise in its first C channels. The spacings are diffusers' own, without the last timestep.
    """
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=diffusion.num_timesteps,
        trained_betas=diffusion.betas.tolist(),
        timestep_spacing=settings.timestep_spacing,
    )
    scheduler.set_timesteps(num_inference_steps)  # on the processor, where the scheduler looks steps up
    for step, timestep in enumerate(scheduler.timesteps.tolist()):
        output = model(x, filled(timestep, x)).float()
        x = scheduler.step(output[:, : x.shape[1]], timestep, x, return_dict=False)[0]
        callback(step, x, timestep)
    return x


DPM_SOLVER = Sampler("dpm_solver", dpm_solver, Diffusion, DiffusionSettings, require_steps=require_steps)

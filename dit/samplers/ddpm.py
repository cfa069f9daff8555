"""Diffusion sampling in DiT's settings: respaced timesteps, learned variance, x_0 not clipped.

diffusers' schedulers take the same steps, but DDPMScheduler draws its noise from a generator in the order of use; here
it is keyed by image, so that no batch size changes an image. A test holds the two against each other.
"""

import warnings
from collections.abc import Callable

from torch import Tensor

from dit.objectives.diffusion import Diffusion, space_timesteps
from dit.samplers.own_settings import DiffusionSettings
from dit.samplers.sampler import Callback, Model, Sampler, StepNoise
from dit.samplers.times import filled

Advance = Callable[[Diffusion, Tensor, Tensor, int, int], Tensor]
"""x a timestep further down, of the spaced diffusion, the model's output, x, the timestep's index and the step."""


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

EARLIEST_START = 0.9  # share of the timesteps above which sampling begins with noise alone


def warn_of_late_start(timestep: int, num_timesteps: int, num_inference_steps: int) -> None:
    """Whole strides may end far below the last timestep, where x still holds data that noise stands in for."""
    if timestep < EARLIEST_START * (num_timesteps - 1):
        warnings.warn(
            f"num_inference_steps {num_inference_steps}: leading spacing begins at timestep {timestep} of "
            f"{num_timesteps}, not at noise: use linspace, or a number that divides {num_timesteps}",
            stacklevel=2,
        )


def require_steps(
    diffusion: Diffusion, num_inference_steps: int, settings: DiffusionSettings, num_places: int | None
) -> None:
    """Refuse what the spacing does not reach, and a single step, which would begin at the data; warn of late starts."""
    timesteps = TIMESTEP_SPACINGS[settings.timestep_spacing](diffusion.num_timesteps, num_inference_steps)
    if len(timesteps) < 2:
        raise ValueError(f"num_inference_steps: a diffusion takes at least 2 timesteps, got {len(timesteps)}")
    warn_of_late_start(timesteps[-1], diffusion.num_timesteps, num_inference_steps)


def ddpm(
    diffusion: Diffusion,
    model: Model,
    x: Tensor,
    num_inference_steps: int,
    step_noise: StepNoise,
    settings: DiffusionSettings,
    callback: Callback,
) -> Tensor:
    """Ancestral sampling: a draw from the model's reverse step at every timestep (Ho et al., 2020).

    The model takes integer timesteps t [B] of the full diffusion and predicts [B, 2 C, h, w], C channels where the
    variance is not learned. The last step draws no noise.
    """

    def advance(spaced: Diffusion, output: Tensor, x: Tensor, index: int, step: int) -> Tensor:
        reverse = spaced.p_posterior(output, x, filled(index, x))
        if index == 0:
            return reverse.mean
        return reverse.mean + (0.5 * reverse.log_variance).exp() * step_noise(step)

    return _descend(diffusion, model, x, num_inference_steps, settings, callback, advance)


def ddim(
    diffusion: Diffusion,
    model: Model,
    x: Tensor,
    num_inference_steps: int,
    step_noise: StepNoise | None,
    settings: DiffusionSettings,
    callback: Callback,
) -> Tensor:
    """Deterministic sampling: the predicted x_0 with the predicted noise at the next level (Song et al., 2021, eta 0).

    The model is that of `ddpm`; a learned variance goes unused.
    """

    def advance(spaced: Diffusion, output: Tensor, x: Tensor, index: int, step: int) -> Tensor:
        x_0 = spaced.p_posterior(output, x, filled(index, x)).predicted_x_0
        if index == 0:
            return x_0
        return spaced.q_sample(x_0, filled(index - 1, x), output[:, : x.shape[1]])

    return _descend(diffusion, model, x, num_inference_steps, settings, callback, advance)


def _descend(
    diffusion: Diffusion,
    model: Model,
    x: Tensor,
    num_inference_steps: int,
    settings: DiffusionSettings,
    callback: Callback,
    advance: Advance,
) -> Tensor:
    """Down the timesteps, one evaluation each: the model sees the full diffusion's, `advance` the spaced one's."""
    timesteps = TIMESTEP_SPACINGS[settings.timestep_spacing](diffusion.num_timesteps, num_inference_steps)
    spaced = diffusion.respaced(timesteps)
    spaced.tables_on(x.device)  # now, so that no evaluation waits for the copy
    for step, index in enumerate(reversed(range(len(timesteps)))):
        output = model(x, filled(timesteps[index], x))
        x = advance(spaced, output, x, index, step)
        callback(step, x, timesteps[index])
    return x


DDPM = Sampler("ddpm", ddpm, Diffusion, DiffusionSettings, draws_noise=True, require_steps=require_steps)
DDIM = Sampler("ddim", ddim, Diffusion, DiffusionSettings, require_steps=require_steps)

"""Diffusion sampling in DiT's settings: respaced timesteps, learned variance, x_0 not clipped.

diffusers' schedulers take the same steps, but DDPMScheduler draws its noise from a generator in the order of use; here
it is keyed by image, so that no batch size changes a picture. A test holds the two against each other.
"""

from collections.abc import Callable

from torch import Tensor

from dit.objectives.diffusion import Diffusion
from dit.samplers.times import filled

Model = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, float], None]
Advance = Callable[[Diffusion, Tensor, Tensor, int, int], Tensor]


def ddpm(
    model: Model,
    x: Tensor,
    objective: Diffusion,
    timesteps: list[int],
    step_noise: Callable[[int], Tensor],
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling: a draw from the model's reverse step at every timestep (Ho et al., 2020).

    Args:
        model: `model(x, t)` with integer timesteps t [B] of the full diffusion, predicting [B, 2 C, h, w] (C channels
            where the variance is not learned).
        x: [B, C, h, w] standard normal.
        timesteps: ascending (`space_timesteps`).
        step_noise: noise [B, C, h, w] of step 0, 1, ...; the last step draws none.
        callback: called with step, x and timestep after each step.
    """

    def advance(spaced: Diffusion, output: Tensor, x: Tensor, index: int, step: int) -> Tensor:
        reverse = spaced.p_posterior(output, x, filled(index, x))
        if index == 0:
            return reverse.mean
        return reverse.mean + (0.5 * reverse.log_variance).exp() * step_noise(step)

    return _descend(model, x, objective, timesteps, advance, callback)


def ddim(
    model: Model, x: Tensor, objective: Diffusion, timesteps: list[int], callback: Callback | None = None
) -> Tensor:
    """Deterministic sampling: the predicted x_0 with the predicted noise at the next level (Song et al., 2021, eta 0).

    Arguments as of `ddpm`; a learned variance goes unused.
    """

    def advance(spaced: Diffusion, output: Tensor, x: Tensor, index: int, step: int) -> Tensor:
        x_0 = spaced.p_posterior(output, x, filled(index, x)).predicted_x_0
        if index == 0:
            return x_0
        return spaced.q_sample(x_0, filled(index - 1, x), output[:, : x.shape[1]])

    return _descend(model, x, objective, timesteps, advance, callback)


def _descend(
    model: Model, x: Tensor, objective: Diffusion, timesteps: list[int], advance: Advance, callback: Callback | None
) -> Tensor:
    """Down the timesteps, one evaluation each: the model sees the full diffusion's, `advance` the spaced one's."""
    spaced = objective.respaced(timesteps)
    spaced.tables_on(x.device)  # now, so that no evaluation waits for the copy
    for step, index in enumerate(reversed(range(len(timesteps)))):
        output = model(x, filled(timesteps[index], x))
        x = advance(spaced, output, x, index, step)
        if callback is not None:
            callback(step, x, timesteps[index])
    return x

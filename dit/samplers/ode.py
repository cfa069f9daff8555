"""Solvers of dx/dt = velocity(x, t), from noise at the first time to data at the last."""

from collections.abc import Callable
from itertools import count, pairwise

import torch
from torch import Tensor
from torchdiffeq import odeint

from dit.objectives.flow import Flow, shifted
from dit.samplers.own_settings import AdaptiveSettings, FlowSettings
from dit.samplers.sampler import Callback, Model, Sampler, SamplerFunction, StepNoise
from dit.samplers.times import filled

Velocity = Callable[..., Tensor]  # of x and t
Advance = Callable[[Velocity, Tensor, float, float, bool], Tensor]
"""x at the second time from x at the first; whether it is the last step."""


def time_grid(first: float, last: float, num_steps: int, shift: float = 1.0) -> Tensor:
    """Times [num_steps + 1] float64 from first to last, evenly spaced and then shifted within [first, last].

    Args:
        shift: `timestep_shift` of `FlowSettings`, a number.
    """
    if shift == 1:
        return torch.linspace(first, last, num_steps + 1, dtype=torch.float64)
    even = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    return first + (last - first) * shifted(even, shift)


def fixed_steps(advance: Advance) -> SamplerFunction:
    """A sampler that takes steps of one kind, N of them over N + 1 times."""

    def integrate(
        flow: Flow,
        model: Model,
        x: Tensor,
        num_inference_steps: int,
        step_noise: StepNoise | None,
        settings: FlowSettings,
        callback: Callback,
    ) -> Tensor:
        velocity = velocity_of(flow, model)
        shift = flow.timestep_shift if settings.timestep_shift is None else settings.timestep_shift
        times = time_grid(*flow.sampling_interval, num_inference_steps, shift)
        for step, (now, after) in enumerate(pairwise(times.tolist())):
            x = advance(velocity, x, now, after, step == num_inference_steps - 1)
            callback(step, x, after)
        return x

    return integrate


def velocity_of(flow: Flow, model: Model) -> Velocity:
    """dx/dt from what the model predicts, whatever that is."""
    return lambda x, t, *guided_at: flow.velocity(model(x, t, *guided_at), x, t)


def euler(velocity: Velocity, x: Tensor, now: float, after: float, is_last: bool) -> Tensor:
    """First order: one evaluation per step."""
    return x + (after - now) * velocity(x, filled(now, x))


def heun(velocity: Velocity, x: Tensor, now: float, after: float, is_last: bool) -> Tensor:
    """Second order: two evaluations per step, the slope averaged over both ends."""
    slope = velocity(x, filled(now, x))
    guess = x + (after - now) * slope
    return x + (after - now) / 2 * (slope + velocity(guess, filled(after, x)))


def repa_heun(velocity: Velocity, x: Tensor, now: float, after: float, is_last: bool) -> Tensor:
    """Heun as in REPA's public code: no correction in the last step, and elsewhere one guided as the step's start is.

    The velocity takes a third argument, the time that decides on guidance.
    """
    slope = velocity(x, filled(now, x))
    if not is_last:
        guess = x + (after - now) * slope
        slope = (slope + velocity(guess, filled(after, x), filled(now, x))) / 2
    return x + (after - now) * slope


def midpoint(velocity: Velocity, x: Tensor, now: float, after: float, is_last: bool) -> Tensor:
    """Second order: two evaluations per step, the slope taken in the middle."""
    middle = x + (after - now) / 2 * velocity(x, filled(now, x))
    return x + (after - now) * velocity(middle, filled((now + after) / 2, x))


def adaptive(
    flow: Flow,
    model: Model,
    x: Tensor,
    num_inference_steps: int,
    step_noise: StepNoise | None,
    settings: AdaptiveSettings,
    callback: Callback,
) -> Tensor:
    """Dormand and Prince's fifth order with steps of its own, whatever number is asked for.

    As in the public code, the last step may reach a little beyond the end and is interpolated. The whole batch shares
    its steps: images of different batch sizes differ within the tolerance. The callback is called at the start of each
    accepted step.
    """
    velocity, steps = velocity_of(flow, model), count()

    def slope(time: Tensor, state: Tensor) -> Tensor:
        return velocity(state, time.to(state.dtype).expand(len(state)))

    def accepted(time: Tensor, state: Tensor, size: Tensor) -> None:
        callback(next(steps), state, float(time))

    slope.callback_accept_step = accepted  # pyright: ignore[reportFunctionMemberAccess]  (where torchdiffeq looks)
    ends = torch.tensor(flow.sampling_interval, dtype=torch.float64).to(x.device)
    tolerances = {"rtol": settings.relative_tolerance, "atol": settings.absolute_tolerance}
    solution = odeint(slope, x, ends, **tolerances, method="dopri5")
    assert isinstance(solution, Tensor)  # a tuple only of several states
    return solution[-1]


EULER = Sampler("euler", fixed_steps(euler), Flow, FlowSettings)
HEUN = Sampler("heun", fixed_steps(heun), Flow, FlowSettings)
MIDPOINT = Sampler("midpoint", fixed_steps(midpoint), Flow, FlowSettings)
REPA_HEUN = Sampler("repa_heun", fixed_steps(repa_heun), Flow, FlowSettings)
ADAPTIVE = Sampler("adaptive", adaptive, Flow, AdaptiveSettings)

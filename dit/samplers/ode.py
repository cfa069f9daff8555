"""Solvers of dx/dt = velocity(x, t), from noise at the first time to data at the last."""

from collections.abc import Callable
from itertools import count, pairwise

import torch
from torch import Tensor
from torchdiffeq import odeint

from dit.samplers.times import filled

Velocity = Callable[..., Tensor]  # of x and t
Callback = Callable[[int, Tensor, float], None]


def time_grid(first: float, last: float, num_steps: int, shift: float = 1.0) -> Tensor:
    """Times [num_steps + 1] float64 from first to last, evenly spaced and then shifted within [first, last].

    Args:
        shift: s of t' = s t / (1 + (s - 1) t); below 1 makes steps near the noise smaller (LightningDiT: 0.3).

    Raises:
        ValueError: if the shift is not positive.
    """
    if not shift > 0:
        raise ValueError(f"timestep_shift must be positive, got {shift}: 1 leaves the times even")
    if shift == 1:
        return torch.linspace(first, last, num_steps + 1, dtype=torch.float64)
    even = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    return first + (last - first) * shift * even / (1 + (shift - 1) * even)


def euler(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """First order: one evaluation per step; N + 1 times make N steps."""
    for step, (now, after) in enumerate(pairwise(times.tolist())):
        x = x + (after - now) * velocity(x, filled(now, x))
        if callback is not None:
            callback(step, x, after)
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Second order: two evaluations per step, the slope averaged over both ends."""
    for step, (now, after) in enumerate(pairwise(times.tolist())):
        slope = velocity(x, filled(now, x))
        guess = x + (after - now) * slope
        x = x + (after - now) / 2 * (slope + velocity(guess, filled(after, x)))
        if callback is not None:
            callback(step, x, after)
    return x


def repa_heun(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Heun as in REPA's public code: no correction in the last step, and elsewhere one guided as the step's start is.

    The velocity takes a third argument, the time that decides on guidance.
    """
    for step, (now, after) in enumerate(pairwise(times.tolist())):
        slope = velocity(x, filled(now, x))
        if step < len(times) - 2:
            guess = x + (after - now) * slope
            slope = (slope + velocity(guess, filled(after, x), filled(now, x))) / 2
        x = x + (after - now) * slope
        if callback is not None:
            callback(step, x, after)
    return x


def midpoint(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Second order: two evaluations per step, the slope taken in the middle."""
    for step, (now, after) in enumerate(pairwise(times.tolist())):
        middle = x + (after - now) / 2 * velocity(x, filled(now, x))
        x = x + (after - now) * velocity(middle, filled((now + after) / 2, x))
        if callback is not None:
            callback(step, x, after)
    return x


def adaptive(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    relative_tolerance: float = 1e-3,
    absolute_tolerance: float = 1e-6,
) -> Tensor:
    """Dormand and Prince's fifth order with its own steps, so that only the first and last of the times count.

    As in the public code, the last step may reach a little beyond the end and is interpolated; tolerances are SiT's.
    The whole batch shares its steps: pictures of different batch sizes differ within the tolerance. The callback is
    called at the start of each accepted step.
    """

    def slope(time: Tensor, state: Tensor) -> Tensor:
        return velocity(state, time.to(state.dtype).expand(len(state)))

    if callback is not None:
        steps = count()
        slope.callback_accept_step = lambda time, state, size: callback(next(steps), state, float(time))
    ends = times[[0, -1]].to(x.device)
    return odeint(slope, x, ends, rtol=relative_tolerance, atol=absolute_tolerance, method="dopri5")[-1]

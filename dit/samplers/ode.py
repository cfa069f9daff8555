"""Fixed-step solvers of dx/dt = velocity(x, t), from noise at the first time to data at the last."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, float], None]


def euler(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """First order: one evaluation per step; N + 1 times make N steps."""
    for step, (now, after) in enumerate(pairwise(times.tolist())):
        x = x + (after - now) * velocity(x, _filled(now, x))
        if callback is not None:
            callback(step, x, after)
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Second order: two evaluations per step, the slope averaged over both ends."""
    for step, (now, after) in enumerate(pairwise(times.tolist())):
        slope = velocity(x, _filled(now, x))
        guess = x + (after - now) * slope
        x = x + (after - now) / 2 * (slope + velocity(guess, _filled(after, x)))
        if callback is not None:
            callback(step, x, after)
    return x


def midpoint(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Second order: two evaluations per step, the slope taken in the middle."""
    for step, (now, after) in enumerate(pairwise(times.tolist())):
        middle = x + (after - now) / 2 * velocity(x, _filled(now, x))
        x = x + (after - now) * velocity(middle, _filled((now + after) / 2, x))
        if callback is not None:
            callback(step, x, after)
    return x


def _filled(time: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), time, dtype=x.dtype, device=x.device)

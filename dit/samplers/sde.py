"""Stochastic sampling of flows: dx = (velocity + w score) dt + sqrt(2 w) dW (SiT, arXiv 2401.08740, section 2.4).

Any w >= 0 leaves the densities along the path as they are; the paper writes 2 w where its code and this one write w.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from dit.objectives.flow import SINGULAR_MARGIN, Flow
from dit.samplers.own_settings import StochasticSettings
from dit.samplers.sampler import Callback, Model, Sampler, StepNoise
from dit.samplers.times import filled


def noise_coefficient(settings: StochasticSettings, flow: Flow, x: Tensor, t: Tensor) -> Tensor:
    """w at times t [B], shaped to multiply x [B, ...]."""
    c, norm = flow.coefficients(t, x), settings.diffusion_norm
    t = t.to(x.dtype).view_as(c.sigma)
    match settings.diffusion:
        case "constant":
            return torch.full_like(t, norm)
        case "sbdm":
            return norm * c.score_factor
        case "sigma":
            return norm * c.sigma
        case "linear":
            return norm * (1 - t)
        case "decreasing":
            return 0.25 * (norm * torch.cos(math.pi * t) + 1).square()
        case _:
            return norm * torch.sin(math.pi * t).square()


def stochastic_times(flow: Flow, settings: StochasticSettings, num_inference_steps: int) -> Tensor:
    """Where the noisy steps start and end, float64: with the last step they make `num_inference_steps`."""
    first, last = flow.sampling_interval
    if num_inference_steps < 2 and settings.last_step != "none":
        raise ValueError("num_inference_steps 1: beside the last step there is a noisy one at least, give 2 or more")
    if settings.diffusion == "sbdm" and flow.path != "vp":
        first = SINGULAR_MARGIN  # alpha' / alpha is infinite at t = 0
    if settings.last_step == "none":
        return torch.linspace(first, last, num_inference_steps + 1, dtype=torch.float64)
    return torch.linspace(first, 1 - settings.last_step_size, num_inference_steps, dtype=torch.float64)


def require_steps(flow: Flow, num_inference_steps: int, settings: StochasticSettings, num_places: int | None) -> None:
    """Refuse too few steps, as `stochastic_times` does."""
    stochastic_times(flow, settings, num_inference_steps)


def euler_maruyama(
    flow: Flow,
    model: Model,
    x: Tensor,
    num_inference_steps: int,
    step_noise: StepNoise,
    settings: StochasticSettings,
    callback: Callback,
) -> Tensor:
    """First order, one evaluation per step.

    N steps are N - 1 noisy ones and the last one, or N noisy ones where there is no last one.
    """

    def advance(x: Tensor, now: float, after: float, noise: Tensor) -> Tensor:
        drift, w = _drift(flow, model, settings, x, now)
        return x + (after - now) * drift + (2 * w * (after - now)).sqrt() * noise

    times = stochastic_times(flow, settings, num_inference_steps)
    return _integrate(flow, model, x, times, advance, step_noise, settings, callback)


def stochastic_heun(
    flow: Flow,
    model: Model,
    x: Tensor,
    num_inference_steps: int,
    step_noise: StepNoise,
    settings: StochasticSettings,
    callback: Callback,
) -> Tensor:
    """The noise first, then a Heun step of the drift: two evaluations per noisy step."""

    def advance(x: Tensor, now: float, after: float, noise: Tensor) -> Tensor:
        w = noise_coefficient(settings, flow, x, filled(now, x))
        x = x + (2 * w * (after - now)).sqrt() * noise
        slope, _ = _drift(flow, model, settings, x, now)
        end_slope, _ = _drift(flow, model, settings, x + (after - now) * slope, after)
        return x + (after - now) / 2 * (slope + end_slope)

    times = stochastic_times(flow, settings, num_inference_steps)
    times = times.clamp_max(1 - SINGULAR_MARGIN)  # it evaluates the score at the end, too
    return _integrate(flow, model, x, times, advance, step_noise, settings, callback)


def _integrate(
    flow: Flow,
    model: Model,
    x: Tensor,
    times: Tensor,
    advance: Callable[[Tensor, float, float, Tensor], Tensor],
    step_noise: StepNoise,
    settings: StochasticSettings,
    callback: Callback,
) -> Tensor:
    for step, (now, after) in enumerate(pairwise(times.tolist())):
        x = advance(x, now, after, step_noise(step))
        callback(step, x, after)
    if settings.last_step == "none":
        return x
    x = _last_step(flow, model, settings, x, float(times[-1]))
    callback(len(times) - 1, x, 1.0)
    return x


def _last_step(flow: Flow, model: Model, settings: StochasticSettings, x: Tensor, now: float) -> Tensor:
    if settings.last_step == "mean":
        return x + settings.last_step_size * _drift(flow, model, settings, x, now)[0]
    t = filled(now, x)
    prediction = model(x, t)
    if settings.last_step == "euler":
        return x + settings.last_step_size * flow.velocity(prediction, x, t)
    c = flow.coefficients(t, x)  # Tweedie's formula for the expected data
    return (x - c.sigma * flow.noise(prediction, x, t)) / c.alpha


def _drift(flow: Flow, model: Model, settings: StochasticSettings, x: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """velocity + w score, and w."""
    t = filled(time, x)
    prediction, w = model(x, t), noise_coefficient(settings, flow, x, t)
    return flow.velocity(prediction, x, t) + w * flow.score(prediction, x, t), w


EULER_MARUYAMA = Sampler(
    "euler_maruyama", euler_maruyama, Flow, StochasticSettings, draws_noise=True, require_steps=require_steps
)
STOCHASTIC_HEUN = Sampler(
    "stochastic_heun", stochastic_heun, Flow, StochasticSettings, draws_noise=True, require_steps=require_steps
)

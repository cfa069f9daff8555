"""Classifier-free guidance (Ho and Salimans, 2022)."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from dit.samplers.sampler import Model
from dit.samplers.times import number_of

EDGE = 1e-6  # times at the ends of an interval belong to it, float32 or not
GUIDED_CHANNELS = 3  # of the public DiT and SiT samplers, which guide three of four latent channels


def guide(
    backbone: Callable[..., Tensor],
    labels: Tensor,
    guidance_scale: float = 1.0,
    null_label: int | None = None,
    channels: Literal["all", "first3"] = "all",
    interval: tuple[float, float] = (0.0, math.inf),
    schedule: Literal["constant", "linear"] = "constant",
) -> Model:
    """A backbone with its labels bound and guided: model(x, t) = u + scale (c - u) = (1 + w) c - w u, scale = 1 + w.

    Conditional and unconditional halves run as one batch; where the scale is 1 or t lies outside the interval only
    the conditional one runs.

    Args:
        backbone: `backbone(x [B, C, h, w] or tokens [B, h, w], t [B], labels [B])`.
        labels: [B].
        guidance_scale: 1 is no guidance.
        null_label: label of the unconditional half, the backbone's num_classes.
        channels: guide all channels, or the first three alone as the public samplers do.
        interval: first and last time at which guidance acts, in the unit of t (flow times or diffusion timesteps).
        schedule: "linear" lets the scale grow from 1 at t = 0 to guidance_scale at t = 1 (MaskGIT), times of flows and
            tokens only.

    Raises:
        ValueError: if there is guidance but no null label, or `channels` or `schedule` is something else.
    """
    if channels not in ("all", "first3"):
        raise ValueError(f"guidance channels {channels!r} are unknown: use all or first3")
    if schedule not in ("constant", "linear"):
        raise ValueError(f"guidance schedule {schedule!r} is unknown: use constant or linear")
    if guidance_scale != 1.0 and null_label is None:
        raise ValueError("guidance needs a null label: train the backbone with class_dropout_prob above 0")
    low, high = interval

    def model(x: Tensor, t: Tensor, guided_at: Tensor | None = None) -> Tensor:
        """`guided_at`, by default t, is the time that decides on guidance."""
        decisive = t if guided_at is None else guided_at
        scale = guidance_scale if schedule == "constant" else 1 + (guidance_scale - 1) * _unit_time(decisive)
        if scale == 1.0 or not low - EDGE <= number_of(decisive) <= high + EDGE:
            return backbone(x, t, labels)
        assert null_label is not None
        both = torch.cat((labels, torch.full_like(labels, null_label)))
        conditional, unconditional = backbone(torch.cat((x, x)), torch.cat((t, t)), both).chunk(2)
        guided = _guided_channels(x, conditional, channels)
        result = conditional.clone()
        difference = conditional[:, guided] - unconditional[:, guided]
        result[:, guided] = unconditional[:, guided] + scale * difference
        return result

    return model


def _guided_channels(x: Tensor, prediction: Tensor, channels: str) -> slice:
    """Which channels of a prediction [B, ., h, w] for x are guided."""
    if not x.is_floating_point():  # of tokens: all logits
        if channels != "all":
            raise ValueError(f"guidance channels {channels} are those of latents: use all for tokens")
        return slice(prediction.shape[1])
    guided = min(GUIDED_CHANNELS, x.shape[1]) if channels == "first3" else x.shape[1]
    return slice(guided)  # beyond those of x there are variances


def _unit_time(t: Tensor) -> float:
    if not t.is_floating_point():
        raise ValueError("guidance schedule linear needs times in [0, 1], diffusion timesteps are none: use constant")
    return number_of(t)

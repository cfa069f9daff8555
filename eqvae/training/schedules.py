"""Learning rates as a function of the step, so that a resumed run needs no scheduler state."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.optim import Optimizer

from eqvae.commands import not_among
from eqvae.ranges import require_number

OWN = ("constant", "cosine", "cosine_in_last_tenth")
LAST_TENTH_FLOOR = 0.01  # share of the learning rate at the end of "cosine_in_last_tenth"
OF_DIFFUSERS: dict[str, tuple[str, Callable[[str], Any]] | None] = {
    "linear": None,
    "constant_with_warmup": None,
    "cosine_with_restarts": ("num_cycles", int),
    "polynomial": ("power", float),
    "piecewise_constant": ("step_rules", str),
}
"""Names that `diffusers.optimization.get_scheduler` gives schedules, and the setting that may stand behind a colon."""


def learning_rate_factor(step: int, max_steps: int, warmup_steps: int = 0, decay: str = "constant") -> float:
    """What to multiply the base learning rate with at a step (0 is the first).

    Args:
        step: number of optimizer steps before this one.
        max_steps: of the whole run, at which a decay ends.
        warmup_steps: the factor rises linearly to 1 over so many steps.
        decay: "constant" (DiT, SiT, REPA, MaskGIT v1), "cosine" to zero at max_steps, or "cosine_in_last_tenth",
            constant until 0.9 max_steps and then a cosine to 1 % (MaskGIT v2). Others are diffusers', whose warm-up
            begins at 0: "linear" to zero, "constant_with_warmup", "cosine_with_restarts:CYCLES", "polynomial:POWER" to
            1e-7, "piecewise_constant:RULES" (which has no warm-up; `1:1000,0.1:2000,0.01` changes at 1000 and 2000).

    Raises:
        ValueError: if the decay is none of these.
    """
    if decay not in OWN:
        return _schedule_of_diffusers(decay, warmup_steps, max_steps)(step)
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if decay == "constant":
        return warmup
    if decay == "cosine":
        return warmup * _half_cosine((step - warmup_steps) / max(1, max_steps - warmup_steps))
    share = _half_cosine(10 * step / max(1, max_steps) - 9)
    return warmup * (LAST_TENTH_FLOOR + (1 - LAST_TENTH_FLOOR) * share)


def require_schedule(decay: str, warmup_steps: int) -> None:
    """Refuse a schedule that `learning_rate_factor` does not know, before anything is loaded.

    Raises:
        ValueError: naming those that there are, or the setting that is wrong.
    """
    require_number("model.init_args.warmup_steps", warmup_steps, least=0)
    learning_rate_factor(0, 1, warmup_steps, decay)


@cache
def _schedule_of_diffusers(decay: str, warmup_steps: int, max_steps: int) -> Callable[[int], float]:
    """The factor as a function of the step."""
    from diffusers.optimization import get_scheduler

    name, colon, value = decay.partition(":")
    if name not in OF_DIFFUSERS:
        raise ValueError(f"decay: {not_among(name, [*OWN, *OF_DIFFUSERS])}")
    setting, given = OF_DIFFUSERS[name], {}
    if colon and setting is None:
        raise ValueError(f"decay {decay!r} of the learning rate: {name} takes no setting")
    if name == "piecewise_constant" and (not value or warmup_steps):
        raise ValueError(f"decay {decay!r} of the learning rate: write {name}:RULES, and no warmup_steps")
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    try:
        if setting is not None and colon:
            given = {setting[0]: setting[1](value)}
            if setting[1] is not str:
                require_number(setting[0], given[setting[0]], above=0)
        schedule = get_scheduler(name, stand_in, num_warmup_steps=warmup_steps, num_training_steps=max_steps, **given)
    except ValueError as error:
        raise ValueError(f"decay {decay!r} of the learning rate: {error}") from None
    return schedule.lr_lambdas[0]


def _half_cosine(progress: float) -> float:
    """From 1 at 0 and before to 0 at 1 and beyond."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))


def set_learning_rate(optimizer: Optimizer | LightningOptimizer, learning_rate: float, step: int) -> None:
    """One learning rate for all parameter groups.

    Raises:
        ValueError: if it is negative or not finite, before a step with it ruins the weights.
    """
    if not 0 <= learning_rate < math.inf:
        raise ValueError(f"learning rate {learning_rate} at step {step}: set model.init_args.learning_rate")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate

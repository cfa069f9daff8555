"""Learning rates as a function of the step, so that a resumed run needs no scheduler state."""

import math
from typing import Literal, get_args

from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.optim import Optimizer

Decay = Literal["constant", "cosine", "cosine_in_last_tenth"]
LAST_TENTH_FLOOR = 0.01  # share of the learning rate at the end of "cosine_in_last_tenth"


def learning_rate_factor(step: int, max_steps: int, warmup_steps: int = 0, decay: Decay = "constant") -> float:
    """What to multiply the base learning rate with at a step (0 is the first).

    Args:
        step: number of optimizer steps before this one.
        max_steps: of the whole run, at which a decay ends.
        warmup_steps: the factor rises linearly to 1 over so many steps.
        decay: "constant" (DiT, SiT, REPA, MaskGIT v1), "cosine" to zero at max_steps, or "cosine_in_last_tenth",
            constant until 0.9 max_steps and then a cosine to 1 % (MaskGIT v2).

    Raises:
        ValueError: if the decay is none of these.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if decay == "constant":
        return warmup
    if decay == "cosine":
        return warmup * _half_cosine((step - warmup_steps) / max(1, max_steps - warmup_steps))
    if decay == "cosine_in_last_tenth":
        share = _half_cosine(10 * step / max(1, max_steps) - 9)
        return warmup * (LAST_TENTH_FLOOR + (1 - LAST_TENTH_FLOOR) * share)
    raise ValueError(f"decay {decay!r} of the learning rate is unknown: use one of {', '.join(get_args(Decay))}")


def _half_cosine(progress: float) -> float:
    """From 1 at 0 and before to 0 at 1 and beyond."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))


def set_learning_rate(optimizer: Optimizer | LightningOptimizer, learning_rate: float, step: int) -> None:
    """One learning rate for all parameter groups.

    Raises:
        ValueError: if it is not finite, before a step with it ruins the weights.
    """
    if not math.isfinite(learning_rate):
        raise ValueError(f"learning rate {learning_rate} at step {step}: set model.init_args.learning_rate")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate

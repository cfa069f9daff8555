"""Learning rates as a function of the step, so that a resumed run needs no scheduler state."""

import math
from typing import Literal

from torch.optim import Optimizer

Decay = Literal["constant", "cosine"]


def learning_rate_factor(step: int, max_steps: int, warmup_steps: int = 0, decay: Decay = "constant") -> float:
    """What to multiply the base learning rate with at a step (0 is the first).

    Args:
        warmup_steps: the factor rises linearly to 1 over so many steps.
        decay: "constant" (all published recipes) or "cosine" to zero at max_steps.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if decay == "constant":
        return warmup
    progress = min(1.0, max(0, step - warmup_steps) / max(1, max_steps - warmup_steps))
    return warmup * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: Optimizer, learning_rate: float, step: int) -> None:
    """One learning rate for all parameter groups.

    Raises:
        ValueError: if it is not finite, before a step with it ruins the weights.
    """
    if not math.isfinite(learning_rate):
        raise ValueError(f"learning rate {learning_rate} at step {step}: set model.init_args.learning_rate")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate

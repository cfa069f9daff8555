"""What sampling costs, counted where it arises."""

from collections.abc import Callable

from torch import Tensor


class CountingModel:
    """A model or backbone that counts its calls and the samples in them; guidance doubles the samples.

    Args:
        model: called as it would be without counting.
    """

    def __init__(self, model: Callable[..., Tensor]):
        self.model = model
        self.num_evaluations = 0
        self.num_samples = 0

    def __call__(self, x: Tensor, *conditions: Tensor, **named: Tensor) -> Tensor:
        self.num_evaluations += 1
        self.num_samples += len(x)
        return self.model(x, *conditions, **named)

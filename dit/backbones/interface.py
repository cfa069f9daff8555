"""What the project asks of a backbone beside its forward pass."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

Auto = Literal["auto"]
"""In a config, in place of a size: the one that fits the latent cache (`dit.following`)."""


@runtime_checkable
class Backbone(Protocol):
    """A network that a generator is: `backbone(x, t, y, drop_labels) -> prediction`.

    One of any other class trains and samples, too; what it costs is not counted.

    Attributes:
        config: arguments of its constructor, which make it once more.
        num_tokens: that one sample becomes.
    """

    config: dict[str, Any]
    num_tokens: int

    def __call__(self, x: Tensor, t: Tensor, y: Tensor, drop_labels: Tensor | None = None) -> Tensor: ...

    def example(self) -> Tensor:
        """One sample of zeros as `x`: latents [1, C, h, w], or tokens [1, h, w]."""
        ...


def config_of(backbone: nn.Module) -> Mapping[str, Any]:
    """Arguments of its constructor, which every network that a generator trains keeps as `config`."""
    config = backbone.config
    assert isinstance(config, Mapping), f"{type(backbone).__name__}.config maps arguments to values"
    return config


def settled(**sizes: int | Auto) -> list[int]:
    """The sizes, in their order.

    Raises:
        ValueError: naming the first that is still "auto".
    """
    numbers = []
    for name, size in sizes.items():
        if size == "auto":
            raise ValueError(f"{name} auto: only a config of train.py has a latent cache to follow; give a number")
        numbers.append(size)
    return numbers

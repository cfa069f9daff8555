"""Networks under `torch.compile`, part by part, but for layers that have to stay as they are.

Two kinds do. Of an attention layer Inductor would keep transposed views for the backward pass, whose strides it cannot
sort where image sizes are symbols ("cannot determine truth value of Relational"). And a layer whose gradient is asked
for on its own would take the whole compiled backward pass with it, three times the work, if that pass could be run
twice at all. What remains are the largest parts without such a layer: blocks, which compile once for all blocks of one
shape, and sooner than a whole network.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch._functorch.config
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


def compile_network(network: nn.Module, asked_for: Iterable[Tensor] = (), any_size: bool = False) -> None:
    """Compile a network in place; weights and their names stay.

    Args:
        network: whose calls are compiled from now on.
        asked_for: weights whose gradients are taken on their own.
        any_size: compile for images of any size at once, and not for the first size before that.
    """
    asked_for = list(asked_for)
    if _can_be_compiled(network, asked_for):
        network.__class__ = _with_inputs_in_order(type(network))
        network.compile(dynamic=True if any_size else None)
        return
    for part in network.children():
        if list(part.children()) and not isinstance(part, Attention):  # a layer alone is a kernel already
            compile_network(part, asked_for, any_size)


def allow_two_passes_back() -> None:
    """Let what is compiled from now on keep its buffers, so that a graph may be gone back through twice."""
    torch._functorch.config.donated_buffer = False


def _can_be_compiled(network: nn.Module, asked_for: list[Tensor]) -> bool:
    if isinstance(network, nn.ModuleList):  # which is never called
        return False
    has_attention = any(isinstance(layer, Attention) for layer in network.modules())
    return not has_attention and {*map(id, asked_for)}.isdisjoint(map(id, network.parameters()))


@cache
def _with_inputs_in_order(kind: type[nn.Module]) -> type[nn.Module]:
    """The same class, whose inputs are made contiguous: each memory layout would need a graph of its own.

    A class and no attribute of the network, since copies have it, too.
    """

    def call(self: nn.Module, *inputs: Any, **options: Any) -> Any:
        in_order = (each.contiguous() if isinstance(each, Tensor) else each for each in inputs)
        return kind.__call__(self, *in_order, **options)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})

"""What several processes of one training tell each other, without the barrier that Lightning puts before each word."""

from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def num_processes() -> int:
    """How many train together; 1 where nothing is distributed."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor that every process has, of the same shape in each; a tensor of one process as it is."""
    count = num_processes()
    if count == 1:
        return values
    total = values.detach().clone()
    torch.distributed.all_reduce(total)
    return total / count


def true_in_all_processes(value: Tensor) -> bool:
    """Whether a boolean scalar on the device is true in every process: one wait for the device."""
    if num_processes() == 1:
        return bool(value)
    value = value.to(torch.uint8)
    torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MIN)
    return bool(value)


def in_turns(mine: list[T]) -> list[T]:
    """Everything that processes made in turns, in order and in every process.

    Args:
        mine: what process r made of n: items r, r + n, r + 2 n, ...; plain values, or tensors on the processor.
    """
    count = num_processes()
    if count == 1:
        return mine
    parts: list[list[T]] = [[] for _ in range(count)]
    torch.distributed.all_gather_object(parts, mine)
    return [parts[number % count][number // count] for number in range(sum(map(len, parts)))]

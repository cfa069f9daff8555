"""What several processes of one training tell each other, without the barrier that Lightning puts before each word."""

import torch
from torch import Tensor


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

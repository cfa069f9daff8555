"""Small things that lie on a device once, so that nobody waits for a copy in every step."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def column(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A number per channel, [C, 1, 1] float32, copied to the device at its first use; not to be changed."""
    with torch.inference_mode(False):  # it may take part in a backward pass later
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def seed_default_generator(device: torch.device, seed: int) -> None:
    """Seed what draws without a generator on this device, as `torch.manual_seed` does for all devices.

    That one formats a stack trace at every call as long as no CUDA device is in use.
    """
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)

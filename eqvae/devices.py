"""Small things of a device: what lies on it once, so that nobody waits for a copy in every step, and its speed."""

import time
from functools import lru_cache

import torch
from torch import Tensor

MATRIX_SIDES = {"cuda": 8192, "cpu": 1024}


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


def matmul_flops(device: torch.device, repeats: int = 5) -> float:
    """Operations a second of the best of several large matrix products, in autocast's precision where it is on.

    The matrices are standard normal: equal or zero entries switch fewer transistors and let a device run faster than
    any data will. Drawing them leaves torch's own generator alone.
    """
    side = MATRIX_SIDES.get(device.type, MATRIX_SIDES["cpu"])
    matrix = torch.randn(side, side, device=device, generator=torch.Generator(device).manual_seed(0))
    if torch.is_autocast_enabled(device.type):
        matrix = matrix.to(torch.get_autocast_dtype(device.type))
    seconds = []
    for _ in range(repeats + 1):  # the first one warms up
        _wait(device)
        started = time.perf_counter()
        torch.matmul(matrix, matrix)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Which devices a test runs on: the processor always, a CUDA device where pytest is given `-m gpu` and there is one."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
ON_EACH = pytest.mark.parametrize(
    "device", [pytest.param(CPU, id="cpu"), pytest.param(GPU, id="cuda", marks=pytest.mark.gpu)]
)
ACCELERATORS = {"cpu": "cpu", "cuda": "gpu"}  # Lightning's names


def relative_error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, norms of all entries in float64; of whole numbers the share that differs."""
    found, expected = found.detach().cpu(), expected.detach().cpu()
    if found.shape != expected.shape or found.dtype.is_floating_point != expected.dtype.is_floating_point:
        raise ValueError(f"{found.dtype} of {tuple(found.shape)} for {expected.dtype} of {tuple(expected.shape)}")
    if not expected.is_floating_point():
        return float((found != expected).double().mean())
    found, expected = found.double(), expected.double()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


def trainer_settings(device: torch.device) -> dict[str, object]:
    """Command-line options of one process on this device."""
    return {"trainer.accelerator": ACCELERATORS[device.type], "trainer.devices": 1}


def on_each(names: Iterable[str], on_processor: Callable[[str], bool] = lambda name: True):
    """Parametrizes `name` and `device`: all names on a CUDA device, the chosen ones on the processor, too."""
    cases = [pytest.param(name, GPU, id=f"{name}-cuda", marks=pytest.mark.gpu) for name in names]
    cases += [pytest.param(name, CPU, id=f"{name}-cpu") for name in names if on_processor(name)]
    return pytest.mark.parametrize(("name", "device"), cases)

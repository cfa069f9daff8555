"""The libraries whose release may change a number, and the devices that work is shared among."""

import os
from importlib.metadata import version

import torch

LIBRARIES = ("torch", "torchvision", "lightning", "diffusers", "timm", "torch-fidelity", "torchmetrics", "numpy")


def installed_libraries() -> dict[str, str]:
    """Release of each, by name."""
    return {name: version(name) for name in LIBRARIES}


def visible_devices() -> list[str]:
    """Names of the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]

"""Where the tests find the parity fixtures and the real images, or why they are skipped."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SHARED = Path(os.environ.get("EQVAE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def load_fixture(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and configuration of one parity fixture; skips the test where the folder is absent."""
    path = SHARED / "fixtures" / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"parity fixtures are not at {path.parent}; set EQVAE_SHARED to the folder that holds them")
    return load_file(path), json.loads(path.with_suffix(".json").read_text())


def shared_data(pattern: str) -> Path:
    """Glob of real images beside the fixtures; skips the test where there are none."""
    glob = SHARED / "data" / pattern
    if not list(glob.parent.glob(pattern)):
        pytest.skip(f"no real images at {glob}; set EQVAE_SHARED to the folder that holds data/")
    return glob


def model_weights(tensors: dict[str, torch.Tensor], prefix: str = "model/") -> dict[str, torch.Tensor]:
    """The state dict stored under `prefix` in a fixture."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference over the largest expected magnitude.

    What a bound on it rests on: float32 rounds every operation by up to 6e-8, and processors take sums in different
    orders. A closed formula of a few operations stays below 1e-6; a network of tens of layers, whose sums of some
    hundred terms err independently, below 1e-5 (3e-6 is the most that AVX2, AVX-512 and plain loops showed); a chain of
    tens of passes below 1e-4; float64 tables below 1e-12. A wrong convention is off by 1e-3 and more.
    """
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)} instead of {tuple(expected.shape)}"
    scale = expected.double().abs().max().clamp_min(1e-12)
    return float((actual.double() - expected.double()).abs().max() / scale)

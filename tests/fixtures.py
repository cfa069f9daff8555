"""Where the tests find the parity fixtures and the real images, or why they are skipped.

Names, sizes, counts and formulae come from the fixtures themselves: `for_keys` makes a test of each key, `load_fixture`
reads tensors and configuration, `analytic_model` the model that a note writes down.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

SHARED = Path(os.environ.get("EQVAE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FIXTURES = SHARED / "fixtures"
ABSENT = f"parity fixtures are not at {FIXTURES}; set EQVAE_SHARED to the folder that holds them"
COMPARED: dict[str, list[str]] = {}  # patterns of keys that some test compares, by fixture


def load_fixture(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and configuration of one parity fixture; skips the test where it is absent."""
    path = FIXTURES / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name}: {ABSENT}")
    return load_file(path), json.loads(path.with_suffix(".json").read_text())


def fixture_keys(name: str) -> list[str]:
    """Names of a fixture's tensors; none where it is absent."""
    path = FIXTURES / f"{name}.safetensors"
    if not path.is_file():
        return []
    with safe_open(path, "pt") as file:
        return sorted(file.keys())


def for_keys(name: str, pattern: str) -> pytest.MarkDecorator:
    """Runs a test for each key of a fixture that is of this form, with `key` and the pattern's groups by their names.

    Args:
        name: of the fixture.
        pattern: regular expression of the whole key, with at least one named group.
    """
    COMPARED.setdefault(name, []).append(pattern)
    arguments = ["key", *re.compile(pattern).groupindex]
    found = [match for key in fixture_keys(name) if (match := re.fullmatch(pattern, key))]
    cases = [pytest.param(match[0], *match.groupdict().values(), id=match[0]) for match in found]
    if not cases:
        reason = f"fixture {name} has no key {pattern}" if fixture_keys(name) else ABSENT
        cases = [pytest.param(*[None] * len(arguments), marks=pytest.mark.skip(reason=reason))]
    return pytest.mark.parametrize(arguments, cases)


def shared_data(pattern: str) -> Path:
    """Glob of real images beside the fixtures; skips the test where there are none."""
    glob = SHARED / "data" / pattern
    if not list(glob.parent.glob(pattern)):
        pytest.skip(f"no real images at {glob}; set EQVAE_SHARED to the folder that holds data/")
    return glob


def model_weights(tensors: dict[str, torch.Tensor], prefix: str = "model/") -> dict[str, torch.Tensor]:
    """The state dict stored under `prefix` in a fixture."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def analytic_model(note: str) -> Callable[..., torch.Tensor]:
    """The model that a note writes down, as `f(x,t)=sin(1.3x)*(1-0.5t)-0.2t`, of tensors that broadcast."""
    found = re.search(r"f\(([a-z, ]+)\)\s*=\s*(.+?)(?:;| \(|, s=|$)", note)
    assert found, f"no formula f(...)=... in {note!r}"
    variables = [name.strip() for name in found[1].split(",")]
    formula = re.sub(r"(?<=[\d.])(?=[a-z(])", "*", found[2].strip())  # 1.3x is 1.3*x
    names = {"sin": torch.sin, "cos": torch.cos, "concat": lambda *parts: torch.cat(parts, dim=1)}
    code = compile(formula, note, "eval")

    def model(*values: torch.Tensor) -> torch.Tensor:
        return eval(code, {"__builtins__": {}}, names | dict(zip(variables, values, strict=True)))

    return model


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

"""A CUDA device computes what the processor does: every backbone, objective, sampler, loss, metric and keyed draw.

The processor is compared with itself, too, with its other kernels: what is compared is then never twice the same bits,
and the tolerance is one that rounding reaches.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from dit.samplers import SAMPLERS
from eqvae.precision import encoding
from tests.cuda.cases import CASES, LEARNED, SAMPLED, Case, Values
from tests.cuda.devices import CPU, ON_EACH, on_each, relative_error
from tests.cuda.test_generators import GUIDANCE
from tests.tiny import needs_bfloat16

FLOAT32 = 1e-5
# Each product in bfloat16 rounds by 2^-9; what reaches a loss or a sample of these networks is rounded some ten times,
# each gradient twice as often.
BFLOAT16, BFLOAT16_GRADIENTS = 1e-2, 2e-2
PLAIN = tuple(f"{sampler}, plain" for sampler in SAMPLERS)
LEFT_OUT = {name for name in SAMPLED if name not in PLAIN and not name.startswith("heun")}  # on a processor
LEFT_OUT |= {"alignment"}  # whose encoder takes ten seconds without oneDNN


@contextmanager
def other_kernels(device: torch.device) -> Iterator[None]:
    """On a processor, torch's own instead of oneDNN's."""
    if device.type != "cpu":
        yield
        return
    with torch.backends.mkldnn.flags(enabled=False):
        yield


def errors(case: Case, device: torch.device, precision: str) -> dict[str, float]:
    """Of each value on a device in a precision, relative to float32 on the processor."""
    with encoding("float32", CPU):
        expected = case(CPU)
    with other_kernels(device), encoding(precision, device):
        found = case(device)
    assert found.keys() == expected.keys()
    return {name: relative_error(found[name], value) for name, value in expected.items()}


def require_small(found: dict[str, float], largest: dict[str, float], record) -> None:
    """All errors at most as large as the entry of their name, or that of the others, ""."""
    worst = max(found, key=lambda name: found[name])
    record("error", found[worst])
    assert all(value <= largest.get(name, largest[""]) for name, value in found.items()), found


@on_each(CASES, lambda name: name not in LEFT_OUT)
def test_float32_is_that_of_the_processor(name, device, record_property):
    require_small(errors(CASES[name], device, "float32"), {"": FLOAT32}, record_property)


def _of_tokens(name: str) -> bool:
    """Tokens are whole numbers: a last bit decides between two that are as likely."""
    return name.startswith(("confidence", "halton"))


BRIEF = ("DiT, diffusion", "SiT, linear velocity", "MaskGIT v2, masked tokens", "heun, guided")


@needs_bfloat16
@on_each([name for name in (*LEARNED, *SAMPLED) if not _of_tokens(name)], BRIEF.__contains__)
def test_bfloat16_is_near_float32(name, device, record_property):
    found = errors(CASES[name], device, "bfloat16")
    require_small(found, {"": BFLOAT16, "gradients": BFLOAT16_GRADIENTS}, record_property)
    assert max(found.values()) > FLOAT32, "nothing was computed in bfloat16"


@ON_EACH
def test_a_number_that_is_off_is_found(device):
    """What a wrong constant of one in ten thousand would change."""

    def off(where: torch.device) -> Values:
        factor = 1.0 if where is CPU else 1.0001
        return {name: value * factor for name, value in CASES["SiT, linear velocity"](where).items()}

    found = errors(off, torch.device(device.type, 0), "float32")
    assert min(found.values()) > FLOAT32
    with pytest.raises(AssertionError):
        require_small(found, {"": FLOAT32}, lambda *_: None)


def test_shapes_and_kinds_of_numbers_are_compared():
    with pytest.raises(ValueError, match=r"float32 of \(2,\) for torch.float32 of \(3,\)"):
        relative_error(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="int64"):
        relative_error(torch.zeros(2), torch.zeros(2, dtype=torch.long))
    assert relative_error(torch.tensor([1, 2]), torch.tensor([1, 3])) == 0.5


def test_every_sampler_and_guidance_is_compared():
    assert set(PLAIN) <= set(SAMPLED)
    assert {name.split(", ")[1] for name in SAMPLED} == set(GUIDANCE)

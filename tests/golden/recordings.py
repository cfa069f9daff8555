"""Recorded losses in text files, and how losses are compared with them."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

TOLERANCE = 1e-4  # on processors that were not recorded; see the package's docstring
FOLDER = Path(__file__).parent
Losses = dict[str, list[float]]


class Processor(NamedTuple):
    """What decides on the last bits of a float32 sum.

    Args:
        capability: torch's name of the vector unit: DEFAULT, AVX2, AVX512, ...
        torch_version: of the running torch.
        arithmetic: hash of what they compute; see `arithmetic`.
    """

    capability: str
    torch_version: str
    arithmetic: str


@dataclass(frozen=True)
class Entry:
    """Losses of one recipe on one processor, by name."""

    processor: Processor
    losses: Losses

    def first(self, num_steps: int) -> "Entry":
        return Entry(self.processor, {name: values[:num_steps] for name, values in self.losses.items()})


def this_processor() -> Processor:
    """The processor, vector unit and torch that run now."""
    with one_thread():
        return Processor(torch.backends.cpu.get_cpu_capability(), torch.__version__, arithmetic())


@contextmanager
def one_thread() -> Iterator[None]:
    """Several threads add in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def arithmetic() -> str:
    """Hash of the bits that layers like those of the recipes give and learn on one thread.

    Capability and version alone are not enough: matrix products and convolutions come from libraries that choose their
    own kernels by the make of the processor. Nothing of this project takes part.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    kernel, width, images = normal(64, 32, 3, 3), 128, normal(4, 32, 16, 16)
    tokens, wide, narrow = normal(4, 64, width), normal(3 * width, width), normal(width, width)
    features = F.silu(F.group_norm(F.conv2d(images, kernel, padding=1), 8))
    query, key, value = F.linear(F.layer_norm(tokens, [width]), wide).view(4, 64, 3, 4, -1).permute(2, 0, 3, 1, 4)
    attended = F.linear(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2), narrow)
    attended = F.gelu(F.rms_norm(attended, [width]), approximate="tanh")
    logits = F.log_softmax(attended, -1)
    total = logits.mean() + features.square().mean() + torch.special.ndtr(attended).mean() + attended.cos().mean()
    leaves = [kernel, images, tokens, wide, narrow]
    total.backward()
    optimizer = torch.optim.AdamW(leaves, 1e-3, fused=True)
    optimizer.step()
    digest = hashlib.sha256()
    for tensor in (features, logits, *(leaf.grad for leaf in leaves), *leaves):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def path_of(name: str, folder: Path = FOLDER) -> Path:
    return folder / f"{name}.txt"


def read_entries(name: str, folder: Path = FOLDER) -> list[Entry]:
    """All recordings of a recipe.

    Raises:
        FileNotFoundError: if there is none, with the command that makes one.
    """
    path = path_of(name, folder)
    if not path.is_file():
        raise FileNotFoundError(f"no recorded losses at {path}: run `python -m tests.golden {name}`")
    entries = []
    for block in path.read_text().split("\nprocessor ")[1:]:
        about, header, *rows = block.strip().splitlines()
        capability, _, version, _, arithmetic_hash = about.split()
        columns = zip(*(map(float, row.split()[1:]) for row in rows), strict=True)
        losses = dict(zip(header.split()[1:], map(list, columns), strict=True))
        entries.append(Entry(Processor(capability, version, arithmetic_hash), losses))
    return entries


def write_entries(name: str, entries: list[Entry], folder: Path = FOLDER) -> None:
    """Nine digits tell every float32 from its neighbours."""
    lines = [f"# Losses of {name}, written by `python -m tests.golden`; what they are for: tests/golden/__init__.py"]
    for processor, losses in ((entry.processor, entry.losses) for entry in entries):
        about = f"processor {processor.capability} torch {processor.torch_version} arithmetic {processor.arithmetic}"
        rows = enumerate(zip(*losses.values(), strict=True))
        lines += ["", about, " ".join(["step", *losses])]
        lines += [" ".join([str(step), *(f"{value:.9g}" for value in values)]) for step, values in rows]
    path_of(name, folder).write_text("\n".join(lines) + "\n")


def require_agreement(entries: list[Entry], num_steps: int) -> None:
    """Recorded processors must be ten times closer than the tolerance in these first steps.

    Raises:
        ValueError: naming the step at which they are not: they were not recorded with the same code.
    """
    first, *others = entries
    for other in others:
        if found := _first_difference(first.losses, other.losses, num_steps, _within(TOLERANCE / 10)):
            step, name = found
            raise ValueError(f"{name} of the recorded processors parts at step {step}: record all with the same code")


def difference(losses: Losses, entries: list[Entry], processor: Processor, num_steps: int) -> str | None:
    """In what the losses of a run on this processor differ from the recorded ones; None if they agree.

    Args:
        num_steps: that are compared if the processor is unknown.
    """
    known = [entry for entry in entries if entry.processor == processor]
    entry = known[0] if known else entries[0]
    if set(losses) != set(entry.losses):
        return f"logged are {', '.join(sorted(losses))}, recorded {', '.join(sorted(entry.losses))}"
    agree, wanted = (_equal, "the same bits") if known else (_within(TOLERANCE), f"a relative {TOLERANCE:g}")
    num_steps = len(losses["train/loss"]) if known else num_steps
    if found := _first_difference(entry.losses, losses, num_steps, agree):
        step, name = found
        return (
            f"{name} at step {step} is {losses[name][step]:.9g}, recorded {entry.losses[name][step]:.9g} on "
            f"{' '.join(entry.processor)}, where {wanted} are expected"
        )
    return None


Agree = Callable[[float, float, float], bool]


def _equal(expected: float, actual: float, scale: float) -> bool:
    return np.float32(expected) == np.float32(actual)


def _within(tolerance: float) -> Agree:
    return lambda expected, actual, scale: abs(actual - expected) <= tolerance * max(abs(expected), scale)


def _first_difference(expected: Losses, actual: Losses, num_steps: int, agree: Agree) -> tuple[int, str] | None:
    """First step and name at which two series of losses do not agree; the scale of each is its mean magnitude."""
    scales = {name: sum(map(abs, values)) / len(values) for name, values in expected.items()}
    for step in range(num_steps):
        for name, values in expected.items():
            if not agree(values[step], actual[name][step], scales[name]):
                return step, name
    return None

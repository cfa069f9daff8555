"""Weights from files and from the network. Nothing but tensors is taken from a file, and no code of it runs."""

import pickle
import re
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from eqvae.network import is_reachable

CONNECTION_SECONDS = 5.0
AROUND = re.compile(r"^(module\.|_orig_mod\.)+")
"""What training on several devices, or compiled, puts before the names of weights."""
CONTAINERS = ("state_dict", "ema", "model")
"""Where training scripts put a state dict; the averaged one comes before the raw one beside it."""


def load_weights(url: str, local_file: str | None, option: str) -> dict[str, Tensor]:
    """A state dict from `local_file`, or from the hub cache, or from `url` (its name ends in the start of its sha256).

    Nothing is unpickled but tensors. A server that does not answer, or stalls, is given up after seconds.

    Args:
        option: the setting that takes a local file, named in every error.

    Raises:
        ValueError: in one line, if the weights cannot be had or the file holds something else.
    """
    try:
        if local_file is not None:
            weights = torch.load(local_file, map_location="cpu", weights_only=True)
        else:
            cached = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(url).path).name)
            if not cached.is_file() and not is_reachable(url):
                raise OSError(f"{urlsplit(url).hostname} does not answer")
            with _connection_timeout(CONNECTION_SECONDS):
                weights = torch.hub.load_state_dict_from_url(
                    url, map_location="cpu", progress=False, check_hash=True, weights_only=True
                )
    except Exception as error:  # a damaged pickle can raise anything
        source, remedy = (local_file, "give another") if local_file else (url, f"give a local file as {option}")
        raise ValueError(f"weights cannot be loaded from {source} ({torch_refusal(error)}): {remedy}") from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{option}: {local_file or url} holds no state dict")
    return weights


def is_at_hand(url: str, local_file: str | None) -> bool:
    """Whether `load_weights` needs no network: a local file was given, or the download lies in the hub's cache."""
    return local_file is not None or (Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name).is_file()


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch checkpoint, on the CPU; of a state dict in it (`CONTAINERS`).

    What kind of file it is, its first bytes tell. Training frameworks pickle objects of their own beside the weights
    (a callback's class, a scheduler): these become placeholders, so the weights load although nothing else does.

    Raises:
        ValueError: one line naming the file, if it is something else, damaged, or holds no state dict.
    """
    content = _read(Path(path))
    content = content if isinstance(content, dict) else {}
    inner = (_tensors_of(content.get(name)) for name in CONTAINERS)
    tensors = next((found for found in inner if found), {}) or _tensors_of(content)
    if not tensors:
        raise ValueError(
            f"file {path} holds no state dict: a mapping of names to tensors, or one under {' or '.join(CONTAINERS)}"
        )
    return tensors


def _tensors_of(weights: object) -> dict[str, Tensor]:
    named = weights.items() if isinstance(weights, dict) else ()
    return {AROUND.sub("", str(name)): value for name, value in named if isinstance(value, Tensor)}


def read_optimizer_states(path: str | Path) -> list[dict]:
    """The optimizers of a training checkpoint (`optimizer_states` of Lightning), each with `state`, `param_groups`.

    Raises:
        ValueError: one line naming the file, if it cannot be read or holds none.
    """
    content = _read(Path(path))
    states = content.get("optimizer_states") if isinstance(content, dict) else None
    if not isinstance(states, list) or not all(isinstance(state, dict) for state in states) or not states:
        raise ValueError(
            f"file {path} holds no optimizer states: give a whole training checkpoint, or start them fresh"
        )
    return states


def _read(path: Path) -> object:
    try:
        with open(path, "rb") as file:
            start = file.read(64)
        return load_file(path) if start[8:9] == b"{" else _read_torch(path, start)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"file {path} cannot be read ({torch_refusal(error)}): is the download complete?") from None


def _read_torch(path: Path, start: bytes) -> object:
    if start.startswith(b"PK"):  # a zip archive, torch's format since 1.6
        if not zipfile.is_zipfile(path):
            raise ValueError("the end of the archive is missing")
        names = get_unsafe_globals_in_checkpoint(path)
        placeholders: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(_Placeholder, n) for n in names]
        with safe_globals(placeholders):
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if start.startswith(b"\x80"):  # a bare pickle, torch's format before
        return torch.load(path, map_location="cpu", weights_only=True)
    raise ValueError(f"neither safetensors nor a torch checkpoint: it starts with {start[:40]!r}")


class _Placeholder:
    """Stands for an object whose class is not loaded; it takes any arguments and state, and drops them."""

    def __init__(self, *args: object, **kwargs: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def torch_refusal(error: Exception) -> str:
    """Why torch does not read a file, in one line; without its advice to read the file unsafely after all."""
    if isinstance(error, pickle.UnpicklingError):
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = named[1] if named else "something damaged or unknown"
        return f"it holds {what}, and nothing but tensors is taken from a file (weights_only)"
    return _first_line(error).split(". ")[0]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def _connection_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

"""Public weights that come from the network, or from a local file where there is none."""

import pickle
import socket
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

CONNECTION_SECONDS = 5.0


def load_weights(url: str, local_file: str | None, option: str) -> dict[str, Tensor]:
    """A state dict from `local_file`, or from the hub cache, or from `url` (its name ends in the start of its sha256).

    Nothing is unpickled but tensors. A connection that stalls is given up after five seconds.

    Args:
        option: the setting that takes a local file, named in every error.

    Raises:
        ValueError: in one line, if the weights cannot be had or the file holds something else.
    """
    try:
        if local_file is not None:
            weights = torch.load(local_file, map_location="cpu", weights_only=True)
        else:
            with _connection_timeout(CONNECTION_SECONDS):
                weights = torch.hub.load_state_dict_from_url(
                    url, map_location="cpu", progress=False, check_hash=True, weights_only=True
                )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        source, remedy = (local_file, "give another") if local_file else (url, f"give a local file as {option}")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"weights cannot be loaded from {source} ({reason}): {remedy}") from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{option}: {local_file or url} holds no state dict")
    return weights


@contextmanager
def _connection_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

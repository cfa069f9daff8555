"""State dicts of public checkpoints, and networks that take exactly them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from eqvae.weights import AROUND

WRAPPERS = ("ema", "model")  # where training scripts put the state dict, the averaged one first


def public_weights(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict of a public checkpoint, the averaged one where there are two, without `AROUND` its names."""
    weights = next((checkpoint[name] for name in WRAPPERS if isinstance(checkpoint.get(name), Mapping)), checkpoint)
    return {AROUND.sub("", str(name)): value for name, value in weights.items()}


Network = TypeVar("Network", bound=nn.Module)


def with_weights(
    family: type[Network], config: dict[str, Any], weights: Mapping[str, Tensor], path: str | Path
) -> Network:
    """`family(**config)` with exactly these weights, in evaluation mode.

    Raises:
        ValueError: naming the file and the first keys that the network does not have, lacks, or has in another shape.
    """
    with torch.device("meta"):
        network = family(**config)
    name = family.__name__
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if unexpected := [key for key in weights if key not in expected]:
        raise ValueError(
            f"checkpoint {path} has more than the layout of {name}: unexpected keys {first_keys(unexpected)}"
        )
    if wrong := [key for key, shape in expected.items() if getattr(weights.get(key), "shape", None) != shape]:
        raise ValueError(f"checkpoint {path}: missing or of another shape than {name}'s: {first_keys(wrong)}")
    network.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    return network.eval().requires_grad_(False)


def first_keys(keys: Iterable[object]) -> str:
    """A few of them, for messages."""
    return ", ".join(map(str, list(keys)[:5]))

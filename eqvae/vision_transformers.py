"""Vision transformers of timm with the weights that others published: from a local file, or downloaded."""

from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from eqvae.network import quick_hub
from eqvae.weights import torch_refusal

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation, for images in [0, 1]
CONTAINERS = ("model", "state_dict", "target_encoder", "teacher")  # around the weights in public files
PREFIXES = ("module.base_encoder.", "module.")  # MoCo v3 trains two encoders; this one is kept


def open_vision_transformer(
    name: str, architecture: str, side: int, weights: dict[str, Tensor], where: str
) -> VisionTransformer:
    """A network for images of one side, with a state dict in timm's layout or in that of the public repositories.

    Args:
        name: of the network, in errors.
        architecture: timm's name.
        side: of its images in pixels; timm resamples a position table of another size.
        weights: what `read_encoder_weights` gives.
        where: the file they come from, in errors.

    Raises:
        ValueError: naming the file and the first weight that is missing or of another shape.
    """
    network = timm.create_model(architecture, pretrained=False, img_size=side, num_classes=0)
    assert isinstance(network, VisionTransformer)
    found = checkpoint_filter_fn(weights, network)
    own = network.state_dict()
    bad = [key for key in own if key not in found or found[key].shape != own[key].shape]
    if bad:
        raise ValueError(f"{where} is no encoder {name}: {bad[0]} is missing or of another shape")
    network.load_state_dict({key: found[key] for key in own})
    return network


def download_vision_transformer(name: str, architecture: str, remedy: str, **options: Any) -> VisionTransformer:
    """The network with the weights that timm knows for it.

    Args:
        name: of the network, in errors.
        architecture: timm's name with the tag of the weights.
        remedy: what to do where they cannot be had, in errors.
        options: of `timm.create_model`.

    Raises:
        ValueError: if there is no download, or it cannot be reached.
    """
    if "." not in architecture:
        raise ValueError(f"encoder weights of {name} have no download: {remedy}")
    try:
        with quick_hub():
            network = timm.create_model(architecture, pretrained=True, num_classes=0, **options)
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"encoder weights cannot be downloaded ({reason}): {remedy}") from None
    assert isinstance(network, VisionTransformer)
    return network


def read_encoder_weights(path: str) -> dict[str, Tensor]:
    """A flat state dict out of whatever container a public file has around it. Nothing but tensors is unpickled.

    Raises:
        ValueError: naming the file that cannot be read or holds none.
    """
    weights: Any  # what a file holds may be anything
    try:
        if Path(path).suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"encoder weights cannot be read from {path} ({torch_refusal(error)}): give another") from None
    for container in CONTAINERS:
        weights = weights.get(container, weights) if isinstance(weights, dict) else weights
    named = dict(weights) if isinstance(weights, dict) else {}
    if not named or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in named.items()):
        raise ValueError(f"{path} holds no state dict of an encoder: give another")
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in named):
            named = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
    return named

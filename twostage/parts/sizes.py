"""Counts that estimates are made of: images of a step and of a source, weights of a network, bytes of files."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from eqvae.autoencoders.places import PACKAGED
from eqvae.plugins import find_class
from twostage.configs import value_at
from twostage.graph.node import Node


def batch_size(config: dict[str, Any]) -> int:
    """Images per optimizer step, of all devices and accumulated batches together."""
    default = 10 if value_at(config, "data.class_path", "").endswith("ImageDataModule") else 256
    return value_at(config, "data.init_args.global_batch_size", default)


def count_images(source: dict[str, Any] | None) -> int | None:
    """Images of a source; a folder's or a file's are counted where they lie here, up to the source's own limit."""
    settings = (source or {}).get("init_args", {})
    if "source" in settings:
        return count_images(settings["source"])
    named = settings.get("num_images") or settings.get("max_images")
    if named:
        return named
    folder = Path(settings["root"]) if "root" in settings else None
    if folder is None or not folder.is_dir():
        return None
    return sum(path.is_file() for path in folder.rglob("*.*"))


def count_weights(backbone: dict[str, Any]) -> int | None:
    """Weights of a backbone's config, built without memory; None where it cannot be built here."""
    try:
        family = find_class(backbone.get("class_path", ""))
        with torch.device("meta"):
            network = family(**backbone.get("init_args", {}))
    except (ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError):
        return None
    return sum(parameter.numel() for parameter in network.parameters())


def autoencoder_bytes(node: Node) -> int | None:
    """Size of the weights that an autoencoder has or starts from; None for a hub id or random weights."""
    while "start" in node.inputs:
        node = node.inputs["start"]
    source = source_name(node.settings.get("autoencoder"))
    return None if source is None else _weights_bytes(source)


def source_name(source: str | dict[str, Any] | None) -> str | None:
    """The path, packaged name or hub id of an autoencoder; None where there is none."""
    name = source.get("source") if isinstance(source, dict) else source
    return name if isinstance(name, str) else None


@cache
def _weights_bytes(source: str) -> int | None:
    if Path(source).is_file():
        return Path(source).stat().st_size
    folder = Path(source) if Path(source).is_dir() else Path(str(PACKAGED / source))
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) or None

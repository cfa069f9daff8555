"""Options that several subcommands have, and what follows from them."""

import argparse
from collections.abc import Iterator
from typing import Any

import torch

from eqvae.data import ImageSource
from eqvae.data.module import ImageBatches
from eqvae.evaluation import EXTRACTORS
from eqvae.evaluation.tables import CENTER_CROP, backend_versions
from eqvae.stream import SequentialBatches

BATCH_SIZE = 100
IMAGES = "images: shapes:COUNT[:SEED], hub:OWNER/NAME, folder, parquet or tar glob or address, .npz"


def add_command(commands: Any, name: str, text: str, num_images: int | None = None) -> argparse.ArgumentParser:
    """A subcommand that reads `num_images` images by default, or all."""
    sub = commands.add_parser(name, help=text, description=text)
    default = "all" if num_images is None else "%(default)s"
    sub.add_argument("--num-images", type=int, default=num_images,
                     help=f"read only so many, evenly spaced (default {default})")  # fmt: skip
    sub.add_argument("--num-workers", type=int, default=0, help="processes that decode images (default 0)")
    sub.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default %(default)s")
    sub.add_argument("--output", help="JSON file for the numbers (default: printed only)")
    return sub


def add_extractor(sub: argparse.ArgumentParser, several: bool) -> None:
    text = "features of the Fréchet distance (default efficientnet_lite0)"
    text += "; several may be named" if several else ""
    default = ["efficientnet_lite0"] if several else "efficientnet_lite0"
    number = "+" if several else None
    sub.add_argument("--extractor", choices=list(EXTRACTORS), help=text, nargs=number, default=default)
    sub.add_argument("--extractor-weights", help="local weights of Inception-v3 (default: downloaded)")


def requested_batches(source: ImageSource, arguments: argparse.Namespace) -> Iterator[torch.Tensor]:
    """The images that are asked for: [B, 3, H, W] in [-1, 1], on the device."""
    batches = SequentialBatches(ImageBatches(source), BATCH_SIZE, arguments.num_images)
    return (batch["image"].to(arguments.device) for batch in batches.loader(arguments.num_workers))


def with_spread(means: dict, deviations: dict[str, float]) -> dict:
    """Means, and beside them the standard deviations over images as `NAME_std`."""
    return means | {f"{name}_std": value for name, value in deviations.items()}


def conditions(arguments: argparse.Namespace, image_size: int) -> dict:
    """What two results must have in common to be compared."""
    return {"image_size": image_size, "crop": CENTER_CROP, "data": arguments.data, "versions": backend_versions()}

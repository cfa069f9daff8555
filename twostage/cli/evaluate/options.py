"""Options that several subcommands have, and what follows from them."""

import argparse
from typing import Any

import torch

from eqvae.evaluation import EXTRACTORS

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

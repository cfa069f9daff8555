"""A ready autoencoder, kept as it was: folder/autoencoder."""

from pathlib import Path
from typing import Any

from eqvae.autoencoders import load_autoencoder
from twostage.graph.node import Node, Progress
from twostage.parts.part import Estimate, Part
from twostage.parts.sizes import autoencoder_bytes


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    load_autoencoder(settings["autoencoder"]).save_pretrained(folder / "autoencoder")


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    return Estimate(num_bytes=autoencoder_bytes(node))


READY = Part("ready", run, estimate)

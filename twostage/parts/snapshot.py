"""The autoencoder as it was after some steps of a training: folder/autoencoder."""

from pathlib import Path
from typing import Any

from eqvae.training.checkpoints import load_checkpoint
from twostage.graph.node import Node, Progress
from twostage.parts.command import train_cli
from twostage.parts.part import Estimate, Part
from twostage.parts.sizes import autoencoder_bytes
from twostage.parts.training import checkpoint_at, read_at


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    cli = train_cli(folder, settings["config"], [])
    checkpoint = load_checkpoint(checkpoint_at(inputs["training"], settings["at_step"]))
    cli.model.load_state_dict(checkpoint["state_dict"])
    cli.model.to(cli.trainer.strategy.root_device)  # the latents' normalization is estimated there
    cli.model.export(cli.datamodule, folder / "autoencoder", checkpoint["global_step"])


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    return Estimate(num_bytes=autoencoder_bytes(node))


def reads(settings: dict[str, Any]) -> dict[str, list[str]]:
    return read_at("training", settings["at_step"])


SNAPSHOT = Part("snapshot", run, estimate, reads=reads)

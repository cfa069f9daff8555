"""The autoencoder as it was after some steps of a training: folder/autoencoder."""

from pathlib import Path
from typing import Any

import torch

from eqvae.autoencoders import LatentStatistics
from eqvae.selection import describe_selection
from eqvae.training.checkpoints import load_checkpoint
from twostage.graph.node import Node, Progress
from twostage.parts.command import train_cli
from twostage.parts.part import Estimate, Part
from twostage.parts.sizes import autoencoder_bytes
from twostage.parts.training import checkpoint_at


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    cli = train_cli(folder, settings["config"], [])
    module, data = cli.model, cli.datamodule
    module.load_state_dict(load_checkpoint(checkpoint_at(inputs["training"], settings["at_step"]))["state_dict"])
    autoencoder, statistics = module.autoencoder.eval(), LatentStatistics()
    with torch.no_grad():
        for batch in data.sequential_loader("train", limit=module.num_normalization_images):
            encoded = autoencoder.encode(batch["image"])
            moments = (encoded.latents, 0 * encoded.latents) if module.quantized else (encoded.mean, encoded.std)
            statistics.update(*moments)
    images = describe_selection(statistics.num_images, len(data.sources["train"]))
    autoencoder.normalization = statistics.normalization(images)
    autoencoder.save_pretrained(folder / "autoencoder")


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    return Estimate(num_bytes=autoencoder_bytes(node))


SNAPSHOT = Part("snapshot", run, estimate)

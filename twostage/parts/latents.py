"""The training images of the generators are encoded: folder/latents."""

from pathlib import Path
from typing import Any

from twostage.configs import value_at
from twostage.graph.node import Node, Progress
from twostage.parts.command import single_device_cli
from twostage.parts.part import Estimate, Part
from twostage.parts.sizes import count_images
from twostage.parts.training import ReportProgress

CACHED_BYTES = 8  # per latent value: mean and deviation of the image and of its mirror image, in two bytes each


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    cli = single_device_cli(folder, settings["config"], [ReportProgress(progress)])
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    images = count_images(value_at(node.settings["config"], "data.init_args.train", {}))
    if images is None or latents is None:
        return Estimate(num_images=images, num_bytes=None)
    return Estimate(num_images=images, num_bytes=images * latents[0] * latents[1] * latents[2] * CACHED_BYTES)


LATENTS = Part("latents", run, estimate)

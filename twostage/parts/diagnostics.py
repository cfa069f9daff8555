"""An autoencoder is measured as it was exported, normalization included: metrics.json and panel.png."""

from pathlib import Path
from typing import Any

from eqvae.evaluation.image_grids import autoencoder_panel, save_png
from eqvae.hashes import read_json, write_json
from eqvae.records import require_numbers
from twostage.configs import value_at
from twostage.graph.node import Node, Progress
from twostage.parts.command import single_device_cli
from twostage.parts.part import Estimate, Part
from twostage.parts.sizes import count_images
from twostage.parts.training import ReportProgress

NUM_PANEL_IMAGES = 4
METRICS, PANEL = "metrics.json", "panel.png"


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    cli = single_device_cli(folder, settings["config"], [ReportProgress(progress)])
    (metrics,) = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    write_json(folder / METRICS, {name.removeprefix("val/"): value for name, value in metrics.items()})
    images = next(iter(cli.datamodule.sequential_loader("validation", NUM_PANEL_IMAGES)))["image"]
    save_png(autoencoder_panel(cli.model.autoencoder.cpu(), images), folder / PANEL)


def result(folder: Path) -> dict[str, float]:
    """What was measured, by the names under which `validate` logs it.

    Raises:
        ValueError: naming the file, if it is damaged or empty, or has an entry that is no number.
    """
    metrics = read_json(folder / METRICS)
    require_numbers(metrics, folder / METRICS)
    return metrics


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    data = node.settings["config"]["data"]
    images = count_images(value_at(data, "init_args.validation", {}))
    limit = node.settings["config"]["trainer"].get("limit_val_batches")
    if isinstance(limit, int):
        images = limit * value_at(data, "init_args.evaluation_batch_size", 100)
    return Estimate(num_images=images)


DIAGNOSTICS = Part("diagnostics", run, estimate)

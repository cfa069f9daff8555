"""Parts that run `train.py`: its command line on a node's config, and what a part needs beside it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import jsonargparse
import torch
import yaml
from lightning import LightningDataModule
from lightning.pytorch.callbacks import Callback

from eqvae.files import write_atomically
from eqvae.training.checkpoints import Newest
from eqvae.training.cli import TrainCLI, allow_only_known_classes
from twostage.graph.node import Progress

BATCH_SIZE = 100  # of images that are sampled or measured
SINGLE_DEVICE = {"devices": 1, "num_nodes": 1, "strategy": "auto"}


def train_cli(folder: Path, config: dict[str, Any], callbacks: list[Callback]) -> TrainCLI:
    """The command line of `train.py` on a node's config, which is kept beside its results.

    It computes on several devices where the job has a process for each. Elsewhere on one, which makes the same weights:
    Lightning would start the others by the command of this process, which is that of the whole sweep.
    """
    if int(os.environ.get("SLURM_NTASKS", "1")) == 1:
        config = config | {"trainer": config["trainer"] | SINGLE_DEVICE}
    path = folder / "config.yaml"
    write_atomically(path, yaml.safe_dump(config, sort_keys=False).encode())
    defaults = {"callbacks": callbacks, "enable_progress_bar": False, "enable_model_summary": False}
    return TrainCLI(["--config", str(path)], run=False, trainer_defaults=defaults)


def single_device_cli(folder: Path, config: dict[str, Any], callbacks: list[Callback]) -> TrainCLI:
    """The same for work that is not shared among devices."""
    return train_cli(folder, config | {"trainer": config["trainer"] | SINGLE_DEVICE}, callbacks)


def fit(cli: TrainCLI, newest: Newest) -> None:
    """Train from a checkpoint to the end; of a finished training only what it exports is made.

    Raises:
        ValueError: if the training ended before.
    """
    cli.train(newest.path and str(newest.path))
    if max(newest.step, cli.trainer.global_step) < cli.trainer.max_steps:
        raise ValueError(f"training was stopped at step {cli.trainer.global_step} of {cli.trainer.max_steps}")


class ImageData(Protocol):
    """A data module that reads the images of a split in their order, and tells what caches record of them."""

    def description(self, split: str) -> dict[str, Any]: ...

    def sequential_loader(self, split: str, limit: int | None = None) -> Iterable[dict[str, torch.Tensor]]: ...


def data_module(config: dict[str, Any]) -> ImageData:
    """The images of a config of `train.py`, without its model."""
    allow_only_known_classes()
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    return parser.instantiate_classes(parser.parse_object({"data": config}))["data"]


def device() -> str:
    """Where a part computes that does not train."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def reporting(batches: Iterable[torch.Tensor], progress: Progress, num_images: int) -> Iterator[torch.Tensor]:
    """The batches, telling how many of `num_images` have gone through."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        progress(done, num_images, done)

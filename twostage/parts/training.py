"""What a sweep adds to a training: checkpoints at given steps, a clock, and progress."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from eqvae.hashes import archive_is_sound, read_json, write_json
from eqvae.records import FINITE, WHOLE, require_entries
from eqvae.training.checkpoints import Newest, newest_checkpoint
from eqvae.training.progress import num_images
from twostage.graph.node import Progress

COST = "cost.json"
CHECKPOINTS = "checkpoints"
COST_ENTRIES = {"seconds": FINITE, "num_steps": FINITE, "images_seen": FINITE, "num_devices": WHOLE}


def checkpoint_at(folder: Path, step: int) -> Path:
    """Where `SaveAtSteps` leaves the checkpoint of a step."""
    return folder / CHECKPOINTS / checkpoint_name(step)


def checkpoint_name(step: int) -> str:
    return f"step={step:07d}.ckpt"


def read_at(role: str, step: int) -> dict[str, list[str]]:
    """That a part reads the checkpoint of a step of an input."""
    return {role: [f"{CHECKPOINTS}/{checkpoint_name(step)}"]}


def resumable_checkpoint(folder: Path, at_steps: list[int]) -> Newest:
    """The newest intact checkpoint from which a stopped training makes all that it still lacks.

    Where the checkpoint of an asked step is missing or damaged, it is one of before that step.
    """
    newest = newest_checkpoint(folder / CHECKPOINTS)
    lacking = [step for step in at_steps if not _is_intact(checkpoint_at(folder, step))]
    if newest.path is None or not lacking or newest.step <= lacking[0]:
        return newest
    before = [step for step in at_steps if step < lacking[0]]
    return Newest(checkpoint_at(folder, before[-1]), before[-1]) if before else Newest()


def _is_intact(path: Path) -> bool:
    return path.is_file() and archive_is_sound(path) is not False


class SaveAtSteps(Callback):
    """Saves a checkpoint right after each of these steps."""

    def __init__(self, folder: Path, steps: list[int]):
        self.folder, self.steps = folder, set(steps)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The step that a resumed training goes on from is saved now, if at all: a batch later it is half the next."""
        path = checkpoint_at(self.folder, trainer.global_step)
        lacks = trainer.global_step in self.steps and not _is_intact(path)
        if trainer.strategy.broadcast(lacks):  # one process may have written it before another looks
            trainer.save_checkpoint(path)
        self.steps = {step for step in self.steps if step > trainer.global_step}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step in self.steps:
            self.steps.remove(trainer.global_step)  # a step of several batches ends once
            trainer.save_checkpoint(checkpoint_at(self.folder, trainer.global_step))


class Clock(Callback):
    """Measures what a training costs: folder/cost.json with seconds, steps, images and devices of all attempts.

    A killed attempt counts up to its last checkpoint; so seconds per step is a rate that interruptions do not spoil.
    """

    def __init__(self, folder: Path):
        self.path = folder / COST
        self.before = _read_cost(self.path) if self.path.is_file() else {}
        self.images = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.started, self.first_step = time.perf_counter(), trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.images += num_images(batch) * trainer.world_size

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._write(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._write(trainer)

    def _write(self, trainer: Any) -> None:
        if not trainer.is_global_zero:
            return
        spent = {
            "seconds": time.perf_counter() - self.started,
            "num_steps": trainer.global_step - self.first_step,
            "images_seen": self.images,
        }
        total = {name: value + self.before.get(name, 0) for name, value in spent.items()}
        write_json(self.path, total | {"num_devices": trainer.world_size})


def read_cost(folder: Path) -> dict[str, float]:
    """{"seconds_per_step", "images_per_step", "num_devices"} of a finished training.

    Raises:
        ValueError: naming the file, if it is damaged, or no cost of a training.
    """
    cost = _read_cost(folder / COST)
    if cost["num_steps"] <= 0:
        raise ValueError(f"{folder / COST} is of {cost['num_steps']} steps: remove its folder and train again")
    rates = {"seconds_per_step": cost["seconds"], "images_per_step": cost["images_seen"]}
    return {name: value / cost["num_steps"] for name, value in rates.items()} | {"num_devices": cost["num_devices"]}


def _read_cost(path: Path) -> dict[str, float]:
    cost = read_json(path)
    try:
        require_entries(cost, COST_ENTRIES)
    except ValueError as error:
        raise ValueError(f"{path} is no cost of a training ({error}): remove its folder and train again") from None
    return cost


class ReportProgress(Callback):
    """Tells the sweep how far training, validation or prediction is."""

    def __init__(self, progress: Progress):
        self.progress, self.images = progress, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._report(trainer.global_step, trainer.max_steps, batch, trainer.world_size)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.state.fn == "validate":
            self._report(batch_idx + 1, int(trainer.num_val_batches[0]), batch)

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._report(batch_idx + 1, int(trainer.num_predict_batches[0]), batch)

    def _report(self, done: int, total: int, batch: Any, world_size: int = 1) -> None:
        self.images += num_images(batch) * world_size
        self.progress(done, total, self.images)

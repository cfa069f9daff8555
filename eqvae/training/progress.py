"""The progress line of a training, of its validations, and of a prediction."""

import time
from typing import Any

import torch
from lightning.pytorch.callbacks import ProgressBar

from eqvae.progress import ProgressLine
from eqvae.stream import batches_per_step

NOTE_SECONDS = 0.25  # values are read at most so often: one on a GPU is waited for
SHORT = ("train/", "speed/")
MEASURED = "images_per_second"  # by the line itself


def num_images(batch: dict[str, torch.Tensor]) -> int:
    """Rows of a batch of images or latents."""
    return len(next(iter(batch.values())))


class TrainingProgress(ProgressBar):
    """In place of Lightning's bar: steps, images a second of all devices, the loss, and the time left.

    Other values that are logged with `prog_bar` stand behind the loss. `TrainCLI` adds it where a config has no bar of
    its own; `trainer.enable_progress_bar: false` leaves it out.
    """

    def __init__(self):
        super().__init__()
        self.line: ProgressLine | None = None
        self._enabled, self._note, self._noted, self._batches_before = True, "", 0.0, 0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def _begin(self, what: str, total: int, done: int = 0) -> None:
        self._end()
        if self._enabled:
            self._note, self._noted, self._batches_before = "", 0.0, 0
            self.line = ProgressLine(what, total, done).__enter__()

    def _end(self, *_: Any, **__: Any) -> None:
        if self.line is not None:
            self.line.stop()
            self.line = None

    def _update(self, trainer: Any, done: int, batch: Any, num_batches: int = 1) -> None:
        if self.line is not None:
            self.line.update(done, num_images(batch) * num_batches * trainer.world_size, self._values(trainer))

    def _values(self, trainer: Any) -> str:
        if time.monotonic() - self._noted >= NOTE_SECONDS:
            self._noted = time.monotonic()
            self._note = ", ".join(f"{name} {value:.4g}" for name, value in _shown(trainer.progress_bar_metrics))
        return self._note

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin("training", trainer.max_steps, trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        last = trainer.global_step >= trainer.max_steps
        self._noted = 0.0 if last else self._noted
        self._update(trainer, trainer.global_step, batch, batches_per_step(trainer))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._rename("validating")
        else:
            self._begin("measuring", sum(trainer.num_val_batches))

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.state.fn != "fit":
            self._update(trainer, batch_idx + 1, batch)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._rename("training")
        else:
            self._end()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin("measuring", sum(trainer.num_test_batches))

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._update(trainer, batch_idx + 1, batch)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin("caching", sum(trainer.num_predict_batches))

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._update(trainer, sum(trainer.num_predict_batches[:dataloader_idx]) + batch_idx + 1, batch)

    def _rename(self, what: str) -> None:
        if self.line is not None:
            self.line.rename(what)

    on_train_end = on_test_end = on_predict_end = on_exception = teardown = _end


def _shown(metrics: dict[str, float]) -> list[tuple[str, float]]:
    """Names as short as they can be, the loss before the others."""
    named = {name: value for name, value in metrics.items() if not name.endswith(MEASURED)}
    for prefix in SHORT:
        named = {name.removeprefix(prefix): value for name, value in named.items()}
    return sorted(named.items(), key=lambda item: item[0] != "loss")

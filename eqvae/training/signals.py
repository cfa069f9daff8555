"""Signals: a checkpoint at the next step boundary, then the exit code that the signal calls for."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eqvae.stream import batches_per_step

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)  # a later one takes precedence
AGREEMENT_STEPS = 10


class SaveOnSignal(Callback):
    """SIGTERM and SIGINT save `last.ckpt` and end the process with 143 or 130; SIGUSR1 saves it and goes on.

    The handler only sets a flag: a checkpoint written inside a step would lose that step. The file lies where the
    run's `ModelCheckpoint` writes, else in `checkpoints` of the trainer's root folder; resuming from it continues bit
    for bit. A second SIGINT stops at once, without saving. Several processes compare their flags every
    `AGREEMENT_STEPS` steps, so that one signal to any of them stops all at the same step.

    Outside of training there is nothing to save, and SIGTERM, which Lightning only notes down there, ends the process
    with 143 at once.

    Belongs behind callbacks that act at the end of a step, such as the moving average: `TrainCLI` appends it.
    """

    def __init__(self):
        self._received = 0  # 1 + place in SIGNALS

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Install the handlers, over Lightning's; Lightning restores the original ones when it tears down."""
        self._received = 0
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._receive)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _exit)

    on_test_start = on_predict_start

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_predict_start(trainer, pl_module)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        precedence = 1 + SIGNALS.index(number)
        if number == signal.SIGINT and self._received == precedence:
            raise KeyboardInterrupt
        self._received = max(self._received, precedence)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % batches_per_step(trainer) or trainer.global_step >= trainer.max_steps:
            return  # the last step goes on to the regular end
        received = self._agree(trainer)
        if not received:
            return
        self._received = 0
        number, path = SIGNALS[received - 1], _last_checkpoint(trainer)
        rank_zero_info(f"{signal.Signals(number).name}: saving {path} at step {trainer.global_step}")
        trainer.save_checkpoint(path)
        if number != signal.SIGUSR1:
            raise SystemExit(128 + number)

    def _agree(self, trainer: Any) -> int:
        """The signal that takes precedence among all processes."""
        if trainer.world_size == 1:
            return self._received
        if trainer.global_step % AGREEMENT_STEPS:
            return 0
        received = torch.tensor(float(self._received), device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _last_checkpoint(trainer: Any) -> Path:
    callback = trainer.checkpoint_callback
    if isinstance(callback, ModelCheckpoint) and callback.dirpath:
        return Path(callback.dirpath) / f"{callback.CHECKPOINT_NAME_LAST}.ckpt"
    return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"

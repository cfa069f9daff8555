"""Signals: a checkpoint at a step boundary, then the exit code that the signal calls for."""

import signal
import time
from types import FrameType
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eqvae.commands import AT_ONCE, exit_at_once, install_handlers
from eqvae.stream import batches_per_step
from eqvae.training.last_checkpoint import save_last

REQUEUE = signal.SIGUSR2  # by which submitit, whose handler it is, queues a job again
SIGNALS = (signal.SIGUSR1, REQUEUE, signal.SIGTERM, signal.SIGINT)  # a later one takes precedence
AGREEMENT_STEPS, AGREEMENT_SECONDS = 10, 5.0


class SaveOnSignal(Callback):
    """SIGTERM and SIGINT save `last.ckpt` and end the process with 143 or 130; SIGUSR1 saves it and goes on.

    SIGUSR2 saves it, too, where something handles that signal already, and then has it handled: so submitit's jobs
    leave nothing behind when their time is up.

    While training, the handler only sets a flag: a checkpoint written inside a step would lose that step. The flag is
    looked at after every step and, in a validation, after every batch: what is saved there is the state before the
    validation, and resuming from it continues bit for bit (that validation is not done again). A second SIGINT stops at
    once, without saving. Several processes compare their flags every few steps, at most `AGREEMENT_STEPS` and about
    `AGREEMENT_SECONDS` apart, so that one signal to any of them stops all at the same step.

    Once the last step is saved, and outside of training, there is nothing more to save: the process ends at once.

    Belongs behind callbacks that act at the end of a step or save, such as the moving average and `ModelCheckpoint`:
    `TrainCLI` appends it.
    """

    def __init__(self):
        self._received = 0  # 1 + place in SIGNALS
        self._requeue: Any = None
        self._calls, self._interval, self._agreed = 0, 1, 0.0

    @property
    def stop_requested(self) -> bool:
        """Whether this process was told to end: work that may be left out should be."""
        return self._received > 1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Install the handlers, over Lightning's; Lightning restores the original ones when it tears down."""
        self._received = 0
        self._calls, self._interval, self._agreed = 0, 1, time.monotonic()
        self._requeue = signal.getsignal(REQUEUE)
        handled = [number for number in SIGNALS if number != REQUEUE or callable(self._requeue)]
        install_handlers(dict.fromkeys(handled, self._receive))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        precedence = 1 + SIGNALS.index(number)
        if number == signal.SIGINT and self._received == precedence:
            raise KeyboardInterrupt
        self._received = max(self._received, precedence)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # The last step goes on to the regular end: what is left may take no time at all.
        if (batch_idx + 1) % batches_per_step(trainer) == 0 and trainer.global_step < trainer.max_steps:
            self._answer(trainer)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._answer(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """From now on end at once: the last step is saved, and what follows can be made from it."""
        install_handlers(AT_ONCE | ({REQUEUE: self._requeue} if callable(self._requeue) else {}))
        if self.stop_requested:
            self._stop(SIGNALS[self._received - 1])

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        install_handlers({signal.SIGTERM: exit_at_once})

    on_test_start = on_predict_start

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_predict_start(trainer, pl_module)

    def _answer(self, trainer: Any) -> None:
        received = self._agree(trainer)
        if not received:
            return
        self._received = 0
        number = SIGNALS[received - 1]
        rank_zero_info(f"{signal.Signals(number).name} at step {trainer.global_step}: {save_last(trainer)} is saved")
        if number != signal.SIGUSR1:
            self._stop(number)

    def _stop(self, number: int) -> None:
        """End this process; what queues a job again does so by itself, in its first process."""
        if number == REQUEUE and callable(self._requeue):
            self._requeue(number, None)
        else:
            raise SystemExit(128 + number)

    def _agree(self, trainer: Any) -> int:
        """The signal that takes precedence among all processes."""
        if trainer.world_size == 1:
            return self._received
        self._calls += 1
        if self._calls < self._interval:
            return 0
        now = time.monotonic()
        mine = torch.tensor([self._received, (now - self._agreed) / self._calls], device=trainer.strategy.root_device)
        received, seconds = trainer.strategy.reduce(mine, reduce_op="max").tolist()
        self._calls, self._agreed = 0, now
        self._interval = max(1, min(AGREEMENT_STEPS, int(AGREEMENT_SECONDS / max(seconds, 1e-3))))
        return int(received)


def stop_requested(trainer: Any) -> bool:
    """Whether a run was told to end, for callbacks that do something long between two steps."""
    return any(callback.stop_requested for callback in trainer.callbacks if isinstance(callback, SaveOnSignal))

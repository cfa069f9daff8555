"""What every run logs beside its losses: the settings it began with, and its learning rate."""

from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from eqvae.training.step_logging import is_logged


class RunLog(Callback):
    """Logs the settings of a fit as hyper-parameters, and on every logged step `optimizer/learning_rate`.

    `TrainCLI` adds it.

    Args:
        settings: of the run, a tree of plain values.
    """

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        for logger in trainer.loggers:
            logger.log_hyperparams(self.settings)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        has_stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if has_stepped and is_logged(trainer):
            # Of a number, Lightning would make a copy on the device, and read it there.
            rate = torch.tensor(float(trainer.optimizers[0].param_groups[0]["lr"]))
            pl_module.log("optimizer/learning_rate", rate, rank_zero_only=True)

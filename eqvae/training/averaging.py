"""Exponential moving average of the weights, through Lightning's averaging callback."""

from typing import Any

from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ExponentialMovingAverage(WeightAveraging):
    """Averages once per step of the trained network, validates with the average, and keeps both sets apart.

    Starts as a copy of the initial weights, as the public trainers do. Checkpoints hold the averaged weights under
    `state_dict` and the raw ones under `current_model_state`; after `fit` the module holds the average.

    Args:
        decay: share of the old average that each step keeps; 0.9999 in the papers, for some 10,000 steps and more.
    """

    def __init__(self, decay: float = 0.9999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay of the moving average must lie in [0, 1), got {decay}")
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.decay = decay
        self._swapped = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._average_model.n_averaged.fill_(1)  # the copy counts: the first update blends instead of replacing

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self._average_model is not None:
            self._swap_models(pl_module)
            self._swapped = True

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._restore(pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        # Checkpoint callbacks run last: what they save on an exception must not be swapped.
        self._restore(pl_module)

    def _restore(self, pl_module: Any) -> None:
        if self._swapped:
            self._swap_models(pl_module)
            self._swapped = False

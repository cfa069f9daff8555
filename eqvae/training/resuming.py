"""Where a resumed run goes on, and with which settings."""

from typing import Any

from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from eqvae.processes import in_turns
from eqvae.stream import batches_per_step
from eqvae.training.averaging import ExponentialMovingAverage
from eqvae.training.settings import SETTINGS


class ResumeExactly(Callback):
    """Puts Lightning's counters where the run stands, whenever its checkpoint was saved, and applies new settings.

    Lightning takes a checkpoint of a finished run for the end of its only epoch, also when `max_steps` is larger now,
    goes on in the middle of a validation, counts batches of the old size, and takes the optimizer's settings from the
    checkpoint; its `ModelCheckpoint` forgets which step it saved, and saves it again after the first of several batches
    of the next one, when that has changed statistics and used up gradients. Here a checkpoint of step s is always one
    that was saved right after its last batch, and settings are those of the config. `TrainCLI` adds it to every run.

    Args:
        settings: of the run, kept in its checkpoints.
    """

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings
        self._optimizers: list[list[dict[str, Any]]] = []

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[SETTINGS] = self.settings

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        averaging = any(isinstance(callback, ExponentialMovingAverage) for callback in trainer.callbacks)
        if "averaging_state" in checkpoint and not averaging:
            raise ValueError(
                "the checkpoint holds a moving average of the weights: keep ExponentialMovingAverage in "
                "trainer.callbacks, for without it the run would go on from the average"
            )
        if checkpoint.get("loops") and checkpoint["global_step"] > 0:
            steps = checkpoint["global_step"]
            checkpoint["loops"]["fit_loop"] |= _progress(steps * batches_per_step(trainer), steps)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Remember the optimizers' settings before a checkpoint brings its own."""
        self._optimizers = [
            [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        _require_one_step(trainer)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                callback._last_global_step_saved = trainer.global_step  # else it saves again, within the next step
        for optimizer, settings in zip(trainer.optimizers, self._optimizers, strict=True):
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)


def _require_one_step(trainer: Any) -> None:
    """Refuse processes that go on from different checkpoints: their gradients would be averaged all the same.

    Raises:
        ValueError: with their steps.
    """
    steps = sorted(set(in_turns([trainer.global_step])))
    if len(steps) > 1:
        raise ValueError(
            f"the processes go on from steps {', '.join(map(str, steps))}: not all of them find the checkpoints of "
            f"{trainer.default_root_dir}: give a trainer.default_root_dir that all machines share"
        )


def _progress(num_batches: int, stepped: int) -> dict[str, Any]:
    """State of Lightning's loops right after a batch of the first epoch, before it counts as completed.

    Args:
        stepped: batches that ended with an optimizer step.
    """
    epoch = {"ready": 1, "completed": 0, "started": 1, "processed": 0}
    batch = {"ready": num_batches, "completed": num_batches - 1, "started": num_batches, "processed": num_batches}
    none = dict.fromkeys(epoch, 0)
    return {
        "epoch_progress": {"total": epoch, "current": dict(epoch)},
        "epoch_loop.batch_progress": {"total": batch, "current": dict(batch), "is_last_batch": False},
        "epoch_loop.val_loop.batch_progress": {"total": none, "current": dict(none), "is_last_batch": False},
        "epoch_loop.state_dict": {"_batches_that_stepped": stepped - 1},
    }

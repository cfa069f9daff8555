"""`last.ckpt`: one in a run folder, always the newest."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, ModelCheckpoint


class LastCheckpoint(Callback):
    """Keeps `last.ckpt` the newest state of a run, up to its last step.

    Lightning writes `last-v1.ckpt` beside a `last.ckpt` that this process did not write, and the last step only where
    it is a multiple of `every_n_train_steps`. Here a file of the same name is replaced, and a run that keeps
    checkpoints ends with one.

    Belongs behind Lightning's own callbacks, `ModelCheckpoint` included: `TrainCLI` appends it.
    """

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                callback._enable_version_counter = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step >= trainer.max_steps and trainer.checkpoint_callback is not None:
            save_last(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Also of a run that ends earlier, by a limit of time, say: after this averages take the module's place."""
        if trainer.checkpoint_callback is not None:
            save_last(trainer)


def checkpoint_folder(trainer: Any) -> Path:
    """Where a run keeps its checkpoints: the folder of its `ModelCheckpoint`, else `checkpoints` in its own."""
    folder = getattr(trainer.checkpoint_callback, "dirpath", None)
    return Path(folder) if folder else Path(trainer.default_root_dir) / "checkpoints"


def last_checkpoint(trainer: Any) -> Path:
    """The path of a run's `last.ckpt`, whether it is there or not."""
    return checkpoint_folder(trainer) / f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}.ckpt"


def save_last(trainer: Any) -> Path:
    """Save `last.ckpt`, unless the run's `ModelCheckpoint` has just done so; all processes have to ask.

    The callback learns of it as if it had saved by itself: its state goes into the checkpoint.
    """
    callback = trainer.checkpoint_callback
    path = last_checkpoint(trainer)
    if not isinstance(callback, ModelCheckpoint):
        trainer.save_checkpoint(path)
    elif (callback._last_global_step_saved, callback._last_checkpoint_saved) != (trainer.global_step, str(path)):
        callback.last_model_path = str(path)
        trainer.save_checkpoint(path)
        callback._last_global_step_saved, callback._last_checkpoint_saved = trainer.global_step, str(path)
    return path

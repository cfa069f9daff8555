"""Where a resumed run goes on, and with which settings."""

from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from eqvae.stream import batches_per_step


class ResumeExactly(Callback):
    """Puts Lightning's counters where the run stands, whenever its checkpoint was saved.

    Lightning takes a checkpoint of a finished run for the end of its only epoch, also when `max_steps` is larger now,
    goes on in the middle of a validation, and counts batches of the old size. Here a checkpoint of step s is always one
    that was saved right after its last batch. `TrainCLI` adds it to every run.
    """

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING and checkpoint.get("loops") and checkpoint["global_step"] > 0:
            num_batches = checkpoint["global_step"] * batches_per_step(trainer)
            stepped = checkpoint["global_step"] if pl_module.automatic_optimization else num_batches
            checkpoint["loops"]["fit_loop"] |= _progress(num_batches, stepped)


def _progress(num_batches: int, stepped: int) -> dict[str, Any]:
    """State of Lightning's loops right after a batch of the first epoch, before it counts as completed.

    Args:
        stepped: batches that ended with an optimizer step; of manual optimization all.
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

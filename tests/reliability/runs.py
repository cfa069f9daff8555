"""The two runs that are killed: stage 1 with critic, accumulation and averaging, stage 2 with averaging."""

from pathlib import Path

from eqvae.training.cli import TrainCLI
from tests.tiny import stage_one, stage_two

MAX_STEPS = 8
EVERY_STEP = {"trainer.max_steps": MAX_STEPS, "trainer.log_every_n_steps": 1}


def create_run(
    stage: int, folder: Path, cache: Path, callbacks: list | None = None, validate_at: int | None = None
) -> TrainCLI:
    """A run that saves after every second step; `cache` is read by stage 2.

    Args:
        validate_at: steps between validations of one batch; none by default.
    """
    validation = {"trainer.limit_val_batches": 0}
    if validate_at:
        batches = validate_at * (2 if stage == 1 else 1)
        validation = {"trainer.limit_val_batches": 1, "trainer.val_check_interval": batches}
    if stage == 1:
        overrides = (
            EVERY_STEP
            | {
                "model.init_args.adversarial": "eqvae.losses.AdversarialLoss",
                "model.init_args.adversarial.num_layers": 1,
                "model.init_args.adversarial.base_channels": 4,
                "model.init_args.accumulate_batches": 2,
                "trainer.callbacks": _callbacks(folder),
            }
            | validation
        )
        return stage_one(folder, overrides, callbacks=callbacks or [])
    overrides = EVERY_STEP | validation | {"trainer.callbacks": _callbacks(folder)}
    return stage_two(folder, cache, overrides, callbacks=callbacks or [])


def _callbacks(folder: Path) -> str:
    return (
        "[{class_path: eqvae.training.averaging.ExponentialMovingAverage, init_args: {decay: 0.9}}, "
        "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: "
        f"{{dirpath: {folder}/checkpoints, every_n_train_steps: 2, save_last: true, save_top_k: -1}}}}]"
    )

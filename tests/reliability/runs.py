"""The two runs that are killed: stage 1 with critic, accumulation and averaging, stage 2 with averaging."""

from pathlib import Path

import torch

from eqvae.training.cli import TrainCLI
from tests.tiny import QUIET, STAGE_ONE, STAGE_TWO, options, stage_one, stage_two

MAX_STEPS = 8
CONFIGS = {1: "configs/eqvae/tiny-shapes.yaml", 2: "configs/dit/tiny-sit.yaml"}
TRAINED = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")


def create_run(
    stage: int, folder: Path, cache: Path, callbacks: list | None = None, validate_at: int | None = None
) -> TrainCLI:
    """A run that saves after every second step; `cache` is read by stage 2.

    Args:
        validate_at: steps between validations of one batch; none by default.
    """
    settings = run_settings(stage, folder)
    if validate_at:
        batches = validate_at * (2 if stage == 1 else 1)
        settings |= {"trainer.limit_val_batches": 1, "trainer.val_check_interval": batches}
    if stage == 1:
        return stage_one(folder, settings, callbacks=callbacks or [])
    return stage_two(folder, cache, settings, callbacks=callbacks or [])


def fit_on(stage: int, folder: Path, cache: Path, callbacks: list | None = None, **overrides) -> dict:
    """`train.py fit --resume` of the same run, in this process; returns its last checkpoint.

    Args:
        overrides: settings, with __ for the dots of their names.
    """
    settings = (STAGE_ONE if stage == 1 else STAGE_TWO) | run_settings(stage, folder)
    settings |= {"trainer.default_root_dir": folder} | ({} if stage == 1 else {"data.init_args.cache": cache})
    settings |= {key.replace("__", "."): value for key, value in overrides.items()}
    words = ["fit", "--resume", "--previews=0", "--config", CONFIGS[stage], *options(settings)]
    TrainCLI(words, trainer_defaults=QUIET | {"callbacks": callbacks or []})
    return last_checkpoint(folder)


def last_checkpoint(folder: Path) -> dict:
    """The content of `last.ckpt` in a run folder."""
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def run_settings(stage: int, folder: Path, save_every: int = 2) -> dict:
    """What makes a tiny recipe the run that is killed."""
    settings = {
        "trainer.max_steps": MAX_STEPS,
        "trainer.log_every_n_steps": 1,
        "trainer.limit_val_batches": 0,
        "trainer.callbacks": _callbacks(folder, save_every),
    }
    if stage == 1:
        settings |= {
            "model.init_args.adversarial": "eqvae.losses.AdversarialLoss",
            "model.init_args.adversarial.num_layers": 1,
            "model.init_args.adversarial.base_channels": 4,
            "model.init_args.accumulate_batches": 2,
        }
    return settings


def _callbacks(folder: Path, save_every: int) -> str:
    return (
        "[{class_path: eqvae.training.averaging.ExponentialMovingAverage, init_args: {decay: 0.9}}, "
        "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: "
        f"{{dirpath: {folder}/checkpoints, every_n_train_steps: {save_every}, save_last: true, save_top_k: -1}}}}]"
    )


def same(a, b) -> bool:
    """Equal trees of tensors and plain values, bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def require_same_training(actual: dict, expected: dict, where: str) -> None:
    """Two checkpoints of as many steps whose weights, averages and optimizers are the same to the last bit."""
    assert actual["global_step"] == expected["global_step"], where
    for part in TRAINED:
        assert same(actual[part], expected[part]), f"{part} differs: {where}"
    assert not same(expected["state_dict"], expected["current_model_state"]), "the average never moved"

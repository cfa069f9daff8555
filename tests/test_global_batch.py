"""The global batch is what a recipe states; accumulation, devices and resuming with others change no result."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

from eqvae.bases import load_config
from eqvae.training.cli import TrainCLI
from tests.tiny import stage_one, stage_two

ROOT = Path(__file__).parents[1]
RECIPES = sorted([*ROOT.glob("configs/eqvae/*.yaml"), *ROOT.glob("configs/dit/*.yaml")])
PUBLISHED = {  # images per step, as the publications have them
    "eq-vae-paper": 160,
    "eq-vae-released": 160,
    "sd-vae-ft-ema": 192,
    "sd-vae-ft-mse": 192,
    "dit-xl-2": 256,
    "sit-xl-2": 256,
    "repa-sit-xl-2": 256,
    "fast-dit-xl-2": 256,
    "lightningdit-xl-1": 1024,
    "maskgit-v1": 512,
}
GENTLE = {
    "trainer.max_steps": 6,
    "trainer.callbacks": "[]",
    "trainer.enable_checkpointing": False,
    "trainer.limit_val_batches": 0,
    "model.init_args.learning_rate": 1e-4,
}


class SaveAt(Callback):
    """A checkpoint in the middle of a run."""

    def __init__(self, folder, step):
        self.folder, self.step = folder, step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and not (self.folder / "middle.ckpt").exists():
            trainer.save_checkpoint(self.folder / "middle.ckpt")


def fit(stage, folder, cache, accumulated, save_at=None, ckpt_path=None):
    """Weights before and after a run whose steps are made of so many batches."""
    key = "model.init_args.accumulate_batches" if stage == 1 else "trainer.accumulate_grad_batches"
    settings = GENTLE | {key: accumulated, "data.init_args.global_batch_size": 8}
    callbacks = [SaveAt(folder, save_at)]
    if stage == 1:
        cli = stage_one(folder, settings, callbacks=callbacks)
    else:
        cli = stage_two(folder, cache, settings, callbacks=callbacks)
    before = flattened(cli.model)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=ckpt_path)
    return before, flattened(cli.model)


def flattened(model):
    """All weights but one bias: attention ignores what all keys share, whose gradient is rounding alone."""
    return torch.cat([p.detach().flatten() for name, p in model.named_parameters() if not name.endswith("to_k.bias")])


def assert_same_training(actual, expected):
    """Weights differ by less than a thousandth of how far training moved them; other batches would move them elsewhere.

    Sums in another order differ in their last bits (1e-7). Adam divides each gradient by its own size, so where a
    gradient is little more than rounding, the bits decide a whole step; of 10,000 weights some always are like that.
    """
    assert torch.equal(actual[0], expected[0])
    assert (actual[1] - expected[1]).norm() < 1e-3 * (expected[1] - expected[0]).norm()


@pytest.mark.parametrize("stage", [1, 2])
def test_accumulation_changes_no_result_not_even_across_a_resume(stage, cache, tmp_path):
    """One batch of 8, four of 2, and a run that changes from four to one and on to two."""
    expected = fit(stage, tmp_path / "one", cache, 1)
    assert_same_training(fit(stage, tmp_path / "four", cache, 4), expected)
    fit(stage, tmp_path / "a", cache, 4, save_at=3)
    assert_same_training(fit(stage, tmp_path / "b", cache, 1, 4, tmp_path / "a" / "middle.ckpt"), expected)
    assert_same_training(fit(stage, tmp_path / "c", cache, 2, None, tmp_path / "b" / "middle.ckpt"), expected)


@pytest.mark.parametrize("stage", [1, 2])
def test_the_start_says_what_a_step_is_made_of(stage, cache, tmp_path, caplog):
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        fit(stage, tmp_path, cache, 4)
    assert "global batch 8 = 1 devices x 4 accumulated x 2 per device" in caplog.text
    with pytest.raises(ValueError, match="global_batch_size 8 does not divide by 1 devices x 3 accumulated batches"):
        fit(stage, tmp_path, cache, 3)


@pytest.mark.parametrize("config", ["configs/eqvae/tiny-shapes.yaml", "configs/dit/tiny-sit.yaml"])
@pytest.mark.parametrize("where", ["option", "file"])
def test_the_old_key_names_the_new_one(config, where, tmp_path):
    arguments = ["fit", "--config", config, "--data.init_args.batch_size", "4"]
    if where == "file":
        old = tmp_path / "old.yaml"
        old.write_text(OmegaConf.to_yaml(load_config(config)).replace("    global_batch_size:", "    batch_size:"))
        arguments = ["fit", "--config", str(old)]
    with pytest.raises(ValueError, match=r"^data\.init_args\.batch_size .*data\.init_args\.global_batch_size"):
        TrainCLI(arguments)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_states_its_global_batch(path):
    recipe = load_config(path)
    if recipe["trainer"].get("max_steps") != 0:  # zero: nothing is trained
        size = recipe["data"]["init_args"]["global_batch_size"]
        assert size == PUBLISHED.get(path.stem, size)
    assert "batch_size" not in recipe["data"]["init_args"]

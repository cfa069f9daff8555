"""Two processes that share the weights out train as one does, and their checkpoints are those of one."""

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from PIL import Image
from torch.multiprocessing import ProcessRaisedException

from dit.checkpoints import load_generator
from dit.generation import SamplingSettings
from dit.previews import SamplePreviews
from eqvae.training.averaging import ExponentialMovingAverage
from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.sharding import FullyShardedStrategy
from tests.dit.test_alignment import ALIGNED, write_features
from tests.tiny import stage_one, stage_two

STEPS, HALF = 6, 3
GLOBAL_BATCH = 4
DECAYS = [0.9, 0.5]


class ForkLauncher(_MultiProcessingLauncher):
    """Lightning's own would run the command line once more, which here is that of the tests."""

    def _recover_results_in_main_process(self, worker_output, trainer) -> None:
        """The checkpoints tell all."""


@pytest.fixture(autouse=True, scope="module")
def _fork():
    def configure_launcher(strategy) -> None:
        strategy._launcher = ForkLauncher(strategy, start_method="fork")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FullyShardedStrategy, "_configure_launcher", configure_launcher)
        yield


def fit(folder, cache, num_processes: int, resume=None, overrides=None) -> dict:
    """The last checkpoint of a run in so many processes, with all that may get in the way of sharded weights."""
    settings = {
        "trainer.accelerator": "cpu",
        "trainer.devices": num_processes,
        "trainer.max_steps": STEPS,
        "trainer.accumulate_grad_batches": 2,
        "trainer.limit_val_batches": 1,
        "trainer.val_check_interval": 2 * HALF,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.gradient_clip_val": 0.1,
        "trainer.callbacks": "[]",
        "model.init_args.backbone.init_args.depth": 2,
        "model.init_args.backbone.init_args.gradient_checkpointing": True,
        "model.init_args.learning_rate": 1e-4,
        "data.init_args.global_batch_size": GLOBAL_BATCH,
    }
    callbacks = [
        ExponentialMovingAverage(DECAYS),
        ModelCheckpoint(folder, every_n_train_steps=HALF, save_top_k=-1, filename="{step}"),
        SamplePreviews(HALF, 12, SamplingSettings(num_inference_steps=2), batch_size=10),  # 10 of one, 2 of the other
    ]
    if num_processes > 1:
        settings["trainer.strategy"] = "fsdp2"
    run = stage_two(folder, cache, settings | (overrides or {}), callbacks=callbacks)
    run.trainer.fit(run.model, run.datamodule, ckpt_path=resume)
    return load_checkpoint(folder / f"step={STEPS}.ckpt")


@pytest.fixture(scope="module")
def runs(_fork, cache, tmp_path_factory):
    folders = {count: tmp_path_factory.mktemp(f"processes{count}") for count in (1, 2)}
    return folders, {count: fit(folder, cache, count) for count, folder in folders.items()}


ROUNDING = 1e-6
"""Of weights after 6 steps of 1e-4: a hundredth of one. The halves of a batch are summed apart, 1e-7 of the terms, and
AdamW divides that by the gradient; the gradients of these means over whole latents cancel little, and 3e-8 was the most
on AVX2, AVX-512 and plain loops. A sample or a noise of another process is off by whole steps."""


def assert_close(found, expected, atol: float, where: str) -> None:
    """The same structure, keys and shapes; numbers alike."""
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=atol, msg=lambda text: f"{where}: {text}")
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_close(found[key], expected[key], atol, f"{where}/{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_close(*pair, atol, f"{where}/{index}")
    else:
        assert found == expected, where


TRAINED = ["state_dict", "current_model_state", "further_averages", "averaging_state", "optimizer_states"]


@pytest.mark.parametrize("part", TRAINED)
def test_two_processes_train_as_one(runs, part):
    _, checkpoints = runs
    assert_close(checkpoints[2][part], checkpoints[1][part], ROUNDING, part)


def test_resuming_is_exact(runs, cache, tmp_path):
    folders, checkpoints = runs
    resumed = fit(tmp_path, cache, 2, resume=folders[2] / f"step={HALF}.ckpt")
    for part in TRAINED:
        assert_close(resumed[part], checkpoints[2][part], 0, part)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_another_number_of_processes_continues(runs, cache, tmp_path, before, after):
    folders, checkpoints = runs
    resumed = fit(tmp_path, cache, after, resume=folders[before] / f"step={HALF}.ckpt")
    for part in TRAINED:
        assert_close(resumed[part], checkpoints[1][part], ROUNDING, part)


def test_an_aligned_generator_is_sharded_too(cache, tmp_path):
    features, _ = write_features(tmp_path)
    overrides = ALIGNED | {"data.init_args.features": features}
    one, two = (fit(tmp_path / str(count), cache, count, overrides=overrides) for count in (1, 2))
    assert any(name.startswith("projector.") for name in one["state_dict"])
    for part in TRAINED:
        assert_close(two[part], one[part], ROUNDING, part)


def test_the_checkpoint_and_the_previews_are_those_of_one_process(runs):
    folders, checkpoints = runs
    backbone = load_generator(folders[2] / f"step={STEPS}.ckpt").backbone
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, checkpoints[2]["state_dict"][f"backbone.{name}"])
    for step in (HALF, STEPS):
        one, two = (
            torch.from_numpy(np.array(Image.open(folder / "previews" / f"step={step:07d}.png"))).int()
            for folder in folders.values()
        )
        assert (one - two).abs().max() <= 1


def test_what_cannot_be_sharded_is_refused(cache, tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.strategy fsdp: .* use fsdp2"):
        stage_two(tmp_path, cache, {"trainer.strategy": "fsdp"})
    run = stage_one(tmp_path, {"trainer.strategy": "fsdp2", "trainer.accelerator": "cpu", "trainer.devices": 2})
    with pytest.raises(ProcessRaisedException, match="AutoencoderModule cannot be sharded; use ddp"):
        run.trainer.fit(run.model, run.datamodule)

"""Two processes do what one does with the same global batch: losses, weights, signals, and caches byte for byte."""

import json
import os
import signal
import time

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from dit.generation import SamplingSettings, generate_images
from dit.previews import SamplePreviews
from eqvae.autoencoders.registry import MODEL_CLASSES
from eqvae.caching import LatentCaching
from eqvae.latents import CachePlan, FeatureRows, LatentRows
from eqvae.losses.adversarial import MAXIMUM_WEIGHT
from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.signals import AGREEMENT_STEPS
from tests.tiny import stage_one, stage_two, train
from twostage.parts.training import SaveAtSteps, checkpoint_at

STEPS, GLOBAL_BATCH = 8, 4


class RecordLoss(Callback):
    """Writes the logged losses and the final weights to a file: processes share nothing else."""

    def __init__(self, path):
        self.path, self.losses, self.adaptive_weights = path, [], []

    def on_train_batch_end(self, trainer, *_):
        self.losses.append(float(trainer.logged_metrics["train/loss"]))
        self.adaptive_weights.append(float(trainer.logged_metrics.get("train/adaptive_weight", 0)))

    def on_train_end(self, trainer, module):
        if trainer.is_global_zero:
            weights = {name: value.detach().clone() for name, value in module.named_parameters()}
            values = {"losses": self.losses, "adaptive_weights": self.adaptive_weights}
            torch.save(values | {"weights": weights}, self.path)


def options(num_processes: int) -> dict:
    settings = {
        "trainer.accelerator": "cpu",
        "trainer.max_steps": STEPS,
        "trainer.log_every_n_steps": 1,
        "trainer.callbacks": "[]",
        "trainer.enable_checkpointing": False,
        "trainer.limit_val_batches": 0,
        "data.init_args.global_batch_size": GLOBAL_BATCH,
    }
    if num_processes > 1:
        settings |= {"trainer.strategy": "ddp_fork", "trainer.devices": num_processes}
    return settings


class InFloat64(Callback):
    """Trains in float64, so that what is compared is what the processes do.

    One process sums the gradients of a batch, two sum those of their halves and then both sums. In float32 these sums
    differ by 1e-7 of their terms, and Adam divides by the gradient: where the terms of an entry cancel to 1e-5 of their
    size, its step is 1e-2 of the learning rate off, on one processor and not on another. In float64 it is 1e-11.
    """

    def setup(self, trainer, module, stage):
        module.double()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        floating = {
            name: value for name, value in batch.items() if torch.is_tensor(value) and value.is_floating_point()
        }
        batch.update({name: value.double() for name, value in floating.items()})

    def on_train_end(self, trainer, module):
        module.float()


def fit(stage: int, folder, cache, num_processes: int, callbacks=(), overrides=None, resume=None) -> dict:
    path = folder / "result.pt"
    folder.mkdir(exist_ok=True)
    settings = options(num_processes) | (overrides or {})
    extra = [RecordLoss(path), *callbacks]
    if stage == 1:
        run = stage_one(folder, settings, callbacks=extra)
    else:
        run = stage_two(folder, cache, settings, callbacks=extra)
    run.trainer.fit(run.model, run.datamodule, ckpt_path=resume)
    return torch.load(path, weights_only=True)


@pytest.mark.reliability(11)
@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_two_processes_equal_one(stage, cache, tmp_path, times, reached):
    settings = {"model.init_args.learning_rate": 1e-4, "trainer.max_steps": times(STEPS, 60)}
    runs = [fit(stage, tmp_path / str(count), cache, count, [InFloat64()], settings) for count in (1, 2)]
    reached.largest(f"weights of stage {stage}", assert_equal_runs(*runs, learning_rate=1e-4))


@pytest.mark.reliability(11)
@pytest.mark.slow
def test_two_processes_equal_one_with_a_critic(cache, tmp_path, times, reached):
    """The adaptive weight is that of the global batch; the critic starts later than the autoencoder."""
    settings = {"num_layers": 1, "base_channels": 8, "start_step": 3, "norm": "group"}
    overrides = {f"model.init_args.adversarial.{key}": value for key, value in settings.items()}
    overrides |= {"model.init_args.learning_rate": 1e-5, "model.init_args.transforms": "null"}
    overrides |= {"trainer.max_steps": times(STEPS, 60)}
    overrides |= {"model.init_args.reconstruction.reduction": "mean"}  # with the sum the weight lies at its clamp
    more = ([InFloat64()], overrides)
    one, two = (fit(1, tmp_path / str(count), cache, count, *more) for count in (1, 2))
    reached.largest("with a critic", assert_equal_runs(one, two, learning_rate=1e-5))
    assert 0 < max(one["adaptive_weights"]) < MAXIMUM_WEIGHT
    # A ratio of two norms of sums in float64 (1e-16), of gradients that hardly cancel; 1e-15 was seen, 1e-9 is far off.
    assert two["adaptive_weights"] == pytest.approx(one["adaptive_weights"], rel=1e-9)


def test_two_processes_equal_one_where_images_do_not_reach_all_weights(cache, tmp_path):
    """This decoder also encodes a masked image, where it is given one; DDP refused to wait for that part."""
    name = "AsymmetricAutoencoderKL"
    config = {"_class_name": name, **MODEL_CLASSES[name].tiny}
    settings = {"model.init_args.autoencoder": json.dumps(config), "model.init_args.learning_rate": 1e-4}
    one, two = (fit(1, tmp_path / str(count), cache, count, [InFloat64()], settings) for count in (1, 2))
    assert_equal_runs(one, two, learning_rate=1e-4)


def assert_equal_runs(one: dict, two: dict, learning_rate: float) -> float:
    """The same losses and, to a millionth of the steps that were taken, the same weights; their largest difference."""
    num_steps = len(one["losses"])
    assert len(two["losses"]) == num_steps >= STEPS
    # Stage 2 computes its loss in float32: a mean of 4 samples, each of some roundings of 6e-8.
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
    for name, expected in one["weights"].items():
        # Adam moves an entry by at most about the learning rate in each step. What all keys of an attention share has
        # a gradient of rounding alone, 1e-16 of its terms, which Adam divides by its epsilon of 1e-8: 1e-8 of a step.
        atol = 1e-6 * num_steps * learning_rate
        torch.testing.assert_close(two["weights"][name], expected, rtol=0, atol=atol, msg=name)
    return max(float((two["weights"][name] - expected).abs().max()) for name, expected in one["weights"].items())


class SignalOneProcess(Callback):
    """The last process alone is told to end."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 3 and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


class PoisonOneProcess(Callback):
    """One process alone sees latents that are not finite."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 3 and trainer.global_rank == 1:
            batch["latents"][0] = float("nan")


def test_a_signal_to_one_process_stops_all_at_one_step(cache, tmp_path):
    with pytest.raises(ProcessExitedException, match="exit code 143"):
        fit(2, tmp_path, cache, 2, [SignalOneProcess()], {"trainer.max_steps": 2 * AGREEMENT_STEPS})
    # They compare after the first step, and then after as many as take a few seconds, ten at most.
    assert 3 < load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] <= 1 + AGREEMENT_STEPS


class LateProcess(Callback):
    """The last process looks at the run's folder when the first has long written there."""

    def on_train_start(self, trainer, module):
        if trainer.global_rank == trainer.world_size - 1:
            time.sleep(1)


def test_a_checkpoint_that_a_resumed_part_lacks_is_saved_by_all_processes(cache, tmp_path):
    """One that found it saved already would train on, while the others wait for it in the saving."""
    fit(2, tmp_path, cache, 1, [SaveAtSteps(tmp_path, [2])], {"trainer.max_steps": 2})
    middle = checkpoint_at(tmp_path, 2).rename(tmp_path / "middle.ckpt")
    fit(2, tmp_path, cache, 2, [LateProcess(), SaveAtSteps(tmp_path, [2, 4])], {"trainer.max_steps": 4}, middle)
    assert all(checkpoint_at(tmp_path, step).is_file() for step in (2, 4))


def test_processes_that_go_on_from_different_steps_are_refused(cache, tmp_path):
    """As on machines whose folders are not shared: the second one finds no checkpoint."""
    fit(2, tmp_path, cache, 1, overrides={"trainer.max_steps": 2, "trainer.enable_checkpointing": True})
    run = stage_two(tmp_path, cache, options(2))
    begin = run.trainer._run

    def begin_where_folders_differ(model, ckpt_path=None, **rest):
        return begin(model, ckpt_path=None if run.trainer.local_rank else ckpt_path, **rest)

    run.trainer._run = begin_where_folders_differ
    with pytest.raises(ProcessRaisedException, match=r"the processes go on from steps 0, 2: .* all machines share"):
        run.trainer.fit(run.model, run.datamodule, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")


@pytest.mark.reliability(8, counts="stops in 2 processes")
def test_all_processes_stop_before_the_same_update(cache, tmp_path):
    with pytest.raises(ProcessRaisedException, match="not finite at step 3"):
        fit(2, tmp_path, cache, 2, [PoisonOneProcess()])
    saved = sorted(path.name for path in (tmp_path / "nonfinite").iterdir())
    assert saved == [f"step=0000003-rank={rank}.safetensors" for rank in range(2)]


def test_the_first_process_names_the_samples_of_another(cache, tmp_path, monkeypatch):
    def noted(text):
        (tmp_path / f"said by {os.getpid()}").write_text(text)

    monkeypatch.setattr("eqvae.training.nonfinite.rank_zero_warn", noted)
    fit(2, tmp_path, cache, 2, [PoisonOneProcess()], {"model.init_args.on_nonfinite": "skip"})
    saved = load_file(tmp_path / "nonfinite" / "step=0000003-rank=1.safetensors")
    (bad,) = saved["index"][~saved["latents"].isfinite().flatten(1).all(1)].tolist()
    said = [path.read_text() for path in tmp_path.glob("said by *")]
    assert len(said) == 2
    for text in said:
        assert text.startswith(f"loss is not finite at step 3 (samples {bad}; batch saved as")
        assert "rank=1.safetensors" in text


def test_processes_share_the_sampling_of_previews(cache, tmp_path, monkeypatch):
    def noted(generator, autoencoder, labels, settings, size, rank, count, **rest):
        images = list(generate_images(generator, autoencoder, labels, settings, size, rank, count, **rest))
        (tmp_path / f"{rank} of {count}").write_text(str(sum(map(len, images))))
        return images

    monkeypatch.setattr("dit.previews.generate_images", noted)
    unchanged = {"trainer.max_steps": 1, "model.init_args.learning_rate": 0}
    for count in (1, 2):
        previews = SamplePreviews(1, 25, SamplingSettings(num_inference_steps=1), batch_size=10)
        fit(2, tmp_path / f"run{count}", cache, count, [previews], unchanged)
    made = {path.name: path.read_text() for path in tmp_path.glob("* of *")}
    assert made == {"0 of 1": "25", "0 of 2": "15", "1 of 2": "10"}
    one, two = ((tmp_path / f"run{count}/previews/step=0000001.png").read_bytes() for count in (1, 2))
    assert one == two


@pytest.mark.parametrize("num_images", [48, 5])
def test_two_processes_write_one_cache_byte_for_byte(tmp_path, monkeypatch, num_images):
    monkeypatch.setattr(LatentRows, "shard_rows", 10)
    monkeypatch.setattr(LatentCaching, "plan", CachePlan(10, validation=True))
    folders = []
    for count in (1, 2):
        overrides = {"data.init_args.train.init_args.num_images": num_images, "trainer.accelerator": "cpu"}
        if count > 1:
            overrides |= {"trainer.strategy": "ddp_fork", "trainer.devices": count}
        run = stage_one(tmp_path / str(count), overrides)
        run.trainer.predict(run.model, run.datamodule, return_predictions=False)
        folders.append(tmp_path / str(count))
    for name, count in (("latents", num_images), ("latents-validation", 32)):
        one, two = (contents(folder / name) for folder in folders)
        assert one == two
        assert len([name for name in one if name.startswith("shard-")]) == -(-count // 10)


def test_two_processes_write_one_cache_of_features_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(FeatureRows, "shard_rows", 10)
    caches = []
    for count in (1, 2):
        settings = {"trainer.default_root_dir": tmp_path / str(count), "data.init_args.train.init_args.num_images": 24}
        settings |= {"model.init_args.grid": 2, "trainer.accelerator": "cpu", "data.init_args.evaluation_batch_size": 7}
        settings |= {"trainer.strategy": "ddp_fork", "trainer.devices": count} if count > 1 else {}
        train("predict", "--config", "configs/dit/tiny-repa-features.yaml", settings)
        caches.append(contents(tmp_path / str(count) / "features"))
    assert caches[0] == caches[1]
    assert len([name for name in caches[0] if name.startswith("shard-")]) == 3


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".lock"}

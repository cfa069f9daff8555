"""Held-out validation of stage 2: its own cache, the same noise and times in every run, losses by time."""

import shutil

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from dit.objectives import Diffusion, Flow, MaskedTokens
from dit.validation import NUM_STRATA, ValidationLoss, stratified
from eqvae.hashes import read_json, write_json
from eqvae.latents import LatentCache
from tests.tiny import STAGE_ONE, STAGE_TWO, stage_two, train

NUM_HELD_OUT = STAGE_ONE["data.init_args.validation.init_args.num_images"]


def held_out(cache):
    return cache.with_name("latents-validation")


def validate(folder, cache, overrides=None, step="validate"):
    cli = stage_two(folder, cache, overrides)
    (metrics,) = getattr(cli.trainer, step)(cli.model, cli.datamodule, verbose=False)
    return metrics


def edited(source, folder, changes):
    """A copy of a cache with other entries in its manifest: of a part, or at the top (None)."""
    shutil.copytree(source, folder)
    manifest = read_json(folder / "manifest.json")
    for part, entries in changes.items():
        (manifest[part] if part else manifest).update(entries)
    write_json(folder / "manifest.json", manifest)
    return folder


@pytest.mark.parametrize("count", [1, 2, 7, 10, 100, 1000, 4999])
def test_times_are_the_midpoints_of_even_strata(count):
    assert torch.equal(stratified(count).sort().values, (torch.arange(count).double() + 0.5).div(count).float())


def test_times_are_even_within_every_class_of_a_sorted_set():
    """Discrepancy of each class's times: far below that of random ones, 0.5 / sqrt(50) = 0.07."""
    for times in stratified(50_000).view(1000, 50):
        even = (torch.arange(50) + 0.5) / 50
        assert (times.sort().values - even).abs().max() < 0.05


@pytest.mark.parametrize("objective", [Flow(), Flow(timesteps="logit_normal"), Diffusion(), MaskedTokens()])
def test_flow_time_runs_from_noise_to_data(objective):
    times = objective.flow_time(objective.sample_times(torch.linspace(0.001, 0.999, 500)))
    assert times.min() >= 0
    assert times.max() <= 1
    assert times.max() - times.min() > 0.9
    if isinstance(objective, Diffusion):
        assert objective.flow_time(torch.tensor([0, 999])).tolist() == [1, 0]


def test_losses_are_told_apart_by_time():
    loss, times = ValidationLoss(), torch.tensor([0.0, 0.1, 0.3, 0.74, 0.9, 1.0])
    for rows in (slice(0, 2), slice(2, 6)):
        loss.update({"loss": torch.arange(6.0)[rows], "mse": torch.ones(6)[rows]}, times[rows])
    means = {name: float(value) for name, value in loss.compute().items()}
    assert means == {
        "loss": 2.5,
        "mse": 1,
        "num_latents": 6,
        "loss_t0": 0.5,
        "loss_t1": 2,
        "loss_t2": 3,
        "loss_t3": 4.5,
    }


def test_predict_caches_validation_images_beside_the_others(cache):
    training, validation = LatentCache(cache), LatentCache(held_out(cache))
    assert len(training) == STAGE_ONE["data.init_args.train.init_args.num_images"]
    assert len(validation) == NUM_HELD_OUT
    assert validation.spec == training.spec
    assert validation.manifest["dataset"]["fingerprint"] != training.manifest["dataset"]["fingerprint"]


def test_the_loss_is_that_of_held_out_latents(cache, tmp_path):
    """Computed once more, latent by latent, from the other cache."""
    cli = stage_two(tmp_path, cache)
    (metrics,) = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    (batch,) = cli.datamodule.val_dataloader()
    assert len(batch["latents"]) == NUM_HELD_OUT == metrics["val/num_latents"]
    mean = LatentCache(held_out(cache)).get_batch(batch["index"], None)["latents"]
    assert 0 < (batch["latents"] - mean).norm() / mean.norm() < 1, "a posterior sample near the mean of the same image"
    losses = []
    for row in range(NUM_HELD_OUT):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        loss = ValidationLoss()
        cli.model._validation = loss
        with torch.no_grad():
            cli.model.eval().validation_step(one, 0)
        losses.append(float(loss.compute()["loss"]))
    assert metrics["val/loss"] == pytest.approx(sum(losses) / NUM_HELD_OUT, rel=1e-5)
    strata = [metrics[f"val/loss_t{number}"] for number in range(NUM_STRATA)]
    assert min(strata) < metrics["val/loss"] < max(strata)


def test_without_a_checkpoint_the_newest_of_the_run_is_measured(cache, tmp_path, capsys, caplog):
    """It was random weights."""
    settings = STAGE_TWO | {"trainer.default_root_dir": tmp_path / "run", "data.init_args.cache": cache}
    recipe = ("--config", "configs/dit/tiny-sit.yaml", settings)
    with pytest.raises(ValueError, match="has no intact checkpoint to measure: give --ckpt_path"):
        train("validate", *recipe)
    train("fit", *recipe, {"trainer.limit_val_batches": 0})
    last = tmp_path / "run/checkpoints/last.ckpt"
    named = train("validate", *recipe, f"--ckpt_path={last}").trainer.logged_metrics
    found = train("validate", *recipe).trainer.logged_metrics
    assert float(found["val/loss"]) == float(named["val/loss"])
    assert f"measured: {last}, step 6" in caplog.text


def test_noise_and_times_are_the_same_in_every_run(cache, tmp_path):
    """Whatever the seed, the batch size and the flips of training; the start weights are equal."""
    expected = validate(tmp_path, cache)
    seeds = {"model.init_args.seed": 7, "data.init_args.seed": 8, "data.init_args.flip": False}
    assert validate(tmp_path, cache, seeds) == pytest.approx(expected, rel=1e-6)
    assert validate(tmp_path, cache, {"data.init_args.evaluation_batch_size": 5}) == pytest.approx(expected, rel=1e-5)
    tested = validate(tmp_path, cache, step="test")
    assert tested == pytest.approx(expected, rel=1e-6)


class Losses(Callback):
    """What is logged at the end of each validation."""

    def __init__(self):
        self.values = []

    def on_validation_end(self, trainer, module):
        self.values.append({name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")})


def test_training_validates_and_is_not_changed_by_it(cache, tmp_path):
    """With a learning rate of nothing every validation measures the same."""
    losses, weights = Losses(), []
    still = {"trainer.val_check_interval": 2, "trainer.callbacks": "[]", "model.init_args.learning_rate": 0.0}
    cli = stage_two(tmp_path, cache, still, callbacks=[losses])
    cli.trainer.fit(cli.model, cli.datamodule)
    assert len(losses.values) == 3
    assert losses.values[0] == losses.values[1] == losses.values[2]
    for limit in (0, 1.0):
        cli = stage_two(tmp_path, cache, {"trainer.val_check_interval": 2, "trainer.limit_val_batches": limit})
        cli.trainer.fit(cli.model, cli.datamodule)
        weights.append([value.detach().clone() for value in cli.model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_an_aligned_generator_is_validated_by_the_same_loss(cache, tmp_path):
    """Without targets: comparable with that of a plain generator, whose start weights it shares."""
    aligned = {
        "model.init_args.alignment.encoder.name": "efficientnet_lite0",
        "model.init_args.alignment.depth": 1,
        "model.init_args.alignment.projector_width": 8,
        "data.init_args.images": "eqvae.data.ShapesSource",
        "data.init_args.images.init_args.num_images": 48,
    }
    assert validate(tmp_path, cache, aligned) == pytest.approx(validate(tmp_path, cache), rel=1e-6)


@pytest.mark.parametrize("limit", [{"data.init_args.num_validation_latents": 20}, {"trainer.limit_val_batches": 2}])
def test_part_of_the_cache_is_evenly_spaced(limit, cache, tmp_path, caplog):
    size = {"data.init_args.evaluation_batch_size": 10}
    with caplog.at_level("INFO"):
        assert validate(tmp_path, cache, size | limit)["val/num_latents"] == 20
    assert f"validation latents: 20 of {NUM_HELD_OUT}, evenly spaced, of {held_out(cache)}" in caplog.text


def test_without_a_validation_cache(cache, tmp_path):
    none = {"data.init_args.validation_cache": "null"}
    with pytest.raises(ValueError, match=r"no held-out latents to measure the loss on: set .*validation_cache"):
        validate(tmp_path, cache, none)
    losses = Losses()
    cli = stage_two(tmp_path, cache, none | {"trainer.val_check_interval": 2}, callbacks=[losses])
    cli.trainer.fit(cli.model, cli.datamodule)
    assert losses.values == []


def test_latents_of_another_space_are_refused(cache, tmp_path):
    cases = {
        "autoencoder fingerprint": {
            "latents": {"autoencoder_fingerprint": "0" * 64},
            None: {"autoencoder_fingerprint": "0" * 64},
        },
        "normalization": {"latents": {"normalization": {"shift": [0.0], "scale": [2.0]}}},
        "classes": {"dataset": {"class_names": list("abcdefghij")}},
    }
    for number, (what, changes) in enumerate(cases.items()):
        other = edited(held_out(cache), tmp_path / str(number), changes)
        for start in ("validate", "fit"):
            cli = stage_two(tmp_path, cache, {"data.init_args.validation_cache": other})
            with pytest.raises(ValueError, match=rf"{other} has another {what} than {cache}"):
                getattr(cli.trainer, start)(cli.model, cli.datamodule)
            assert cli.trainer.global_step == 0
    with pytest.raises(ValueError, match=rf"{cache} is of the same images as {cache}: hold other"):
        validate(tmp_path, cache, {"data.init_args.validation_cache": cache})
    with pytest.raises(ValueError, match="nowhere is no finished latent cache"):
        validate(tmp_path, cache, {"data.init_args.validation_cache": tmp_path / "nowhere"})

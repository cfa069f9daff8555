"""Previews while training: images, a distance, and weights that do not notice."""

import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from dit.generation import SamplingSettings, generate_images
from dit.objectives import MaskedTokens
from dit.previews import SamplePreviews
from eqvae.data import ShapesSource
from eqvae.hashes import read_json, write_json
from eqvae.selection import evenly_spaced
from tests.tiny import stage_two


class Metrics(Callback):
    def __init__(self):
        self.distances, self.logged = [], []

    def on_train_start(self, trainer, module):
        log = trainer.logger.log_metrics

        def record(metrics, step=None):
            previews = {name: value for name, value in metrics.items() if name.startswith("preview/")}
            self.distances += [(step, value) for value in previews.values()]
            self.logged += [(step, previews)] if previews else []
            log(metrics, step)

        trainer.logger.log_metrics = record


class Recorded(ShapesSource):
    """Notes which of its images were read."""

    def __getitem__(self, index):
        self.read = [*getattr(self, "read", []), index]
        return super().__getitem__(index)


def test_previews_are_made_and_change_no_weight(cache, tmp_path):
    plain = stage_two(tmp_path / "plain", cache)
    plain.trainer.fit(plain.model, plain.datamodule)
    metrics = Metrics()
    previews = SamplePreviews(
        every_n_steps=3,
        num_images=4,
        sampling=SamplingSettings(num_inference_steps=2),
        reference=Recorded(40, 32),
        num_reference_images=8,
    )
    watched = stage_two(tmp_path / "watched", cache, callbacks=[previews, metrics])
    watched.trainer.fit(watched.model, watched.datamodule)
    for (name, a), b in zip(plain.model.state_dict().items(), watched.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert [path.name for path in sorted((tmp_path / "watched" / "previews").iterdir())] == [
        "step=0000003.png",
        "step=0000006.png",
    ]
    assert Image.open(tmp_path / "watched" / "previews" / "step=0000006.png").size == (4 * 66 + 2, 68)
    assert [step for step, _ in metrics.distances] == [3, 6]
    assert all(value > 0 for _, value in metrics.distances)
    assert previews.reference.read == evenly_spaced(8, 40).tolist()


def test_what_previews_need_is_said(cache, tmp_path):
    with pytest.raises(ValueError, match="the reference has 8 images, not 1000"):
        SamplePreviews(reference=ShapesSource(8, 32))
    unnamed = shutil.copytree(cache, tmp_path / "unnamed")
    write_json(unnamed / "manifest.json", read_json(unnamed / "manifest.json") | {"autoencoder": None})
    shutil.copytree(cache.with_name("latents-validation"), tmp_path / "unnamed-validation")
    run = stage_two(tmp_path, unnamed, callbacks=[SamplePreviews()])
    with pytest.raises(ValueError, match=r"set model\.init_args\.autoencoder"):
        run.trainer.fit(run.model, run.datamodule)


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ({"sampler": "ddim"}, "balanced", "ddim"),
        ({"guidance_scale": 2.0}, "balanced", "class_dropout_prob 0: give guidance_scale 1"),
        ({}, "3,99", "99"),
    ],
)
def test_settings_that_no_preview_could_have_are_refused_before_the_first_step(
    settings, labels, message, cache, tmp_path
):
    previews = SamplePreviews(sampling=SamplingSettings(**settings), labels=labels, num_images=4)
    unguided = {"model.init_args.backbone.init_args.class_dropout_prob": 0.0}
    run = stage_two(tmp_path, cache, unguided, callbacks=[previews])
    with pytest.raises(ValueError, match=message):
        run.trainer.fit(run.model, run.datamodule)
    assert run.trainer.global_step == 0


def test_previews_that_nobody_asked_for_take_no_more_steps_than_there_are_tokens():
    backbone = SimpleNamespace(config={"num_classes": 10, "class_dropout_prob": 0.1})
    module = SimpleNamespace(objective=MaskedTokens(), backbone=backbone)
    unasked = SamplePreviews.of_run(1)
    unasked._take_fewer_steps(module, 16)
    unasked._require_possible(module, 16)
    assert unasked.sampling.num_inference_steps == 16
    with pytest.raises(ValueError, match="50 is more than the 16 tokens"):
        SamplePreviews()._require_possible(module, 16)


def test_a_run_goes_on_without_previews_that_nobody_asked_for(cache, tmp_path, monkeypatch):
    def unreachable(source):
        raise OSError(f"{source} cannot be reached")

    monkeypatch.setattr("dit.previews.load_autoencoder", unreachable)
    run = stage_two(tmp_path, cache, {"trainer.max_steps": 2}, callbacks=[SamplePreviews.of_run(every_n_steps=2)])
    with pytest.warns(UserWarning, match=r"training shows no samples: .* cannot be reached"):
        run.trainer.fit(run.model, run.datamodule)
    assert run.trainer.global_step == 2
    assert not (tmp_path / "previews").exists()
    asked_for = stage_two(tmp_path, cache, {"trainer.max_steps": 2}, callbacks=[SamplePreviews(every_n_steps=2)])
    with pytest.raises(OSError, match="cannot be reached"):
        asked_for.trainer.fit(asked_for.model, asked_for.datamodule)


def test_previews_do_not_keep_a_run_from_ending(cache, tmp_path, monkeypatch):
    drawn = []

    def slow(*arguments, **rest):
        for batch in generate_images(*arguments, **rest):
            drawn.append(len(batch))
            os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr("dit.previews.generate_images", slow)
    sampling = SamplingSettings(num_inference_steps=1)
    previews = SamplePreviews(every_n_steps=2, num_images=50, sampling=sampling, batch_size=1)
    run = stage_two(tmp_path, cache, callbacks=[previews])
    with pytest.raises(SystemExit):
        run.trainer.fit(run.model, run.datamodule)
    assert len(drawn) == 1
    assert run.trainer.global_step == 2
    assert not (tmp_path / "previews").exists()


@pytest.mark.parametrize(("trained", "sampled"), [("32-true", "float32"), ("bf16-mixed", "bfloat16")])
def test_previews_are_sampled_in_the_trainers_precision(cache, tmp_path, monkeypatch, trained, sampled):
    found = []

    def watched(generator, *arguments, **rest):
        found.append(generator.precision)
        return generate_images(generator, *arguments, **rest)

    monkeypatch.setattr("dit.previews.generate_images", watched)
    previews = SamplePreviews(1, 1, SamplingSettings(num_inference_steps=1))
    run = stage_two(tmp_path, cache, {"trainer.precision": trained, "trainer.max_steps": 1}, callbacks=[previews])
    run.trainer.fit(run.model, run.datamodule)
    assert found == [sampled]
    assert (tmp_path / "previews" / "step=0000001.png").is_file()

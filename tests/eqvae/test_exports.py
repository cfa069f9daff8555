"""What a fine-tuning leaves behind, whenever it was stopped, and what is measured and cached after it."""

import os
import shutil
import signal

import pytest
import torch
from huggingface_hub import ModelCard

from eqvae.autoencoders import LatentStatistics, load_autoencoder
from eqvae.autoencoders.exporting import read_export_record
from eqvae.exports import AutoencoderExport
from eqvae.latents.reader import read_manifest
from eqvae.module import AutoencoderModule
from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.gradients import Gradients
from tests.tiny import PACKAGED, STAGE_ONE, WITHOUT_VALIDATION, train

EMA = "[{class_path: eqvae.training.averaging.ExponentialMovingAverage, init_args: {decay: 0.9}}]"


def stage_one(command, folder, *words, **overrides):
    settings = WITHOUT_VALIDATION if command == "fit" else STAGE_ONE
    settings = settings | PACKAGED | {"trainer.default_root_dir": folder, "trainer.callbacks": EMA}
    settings |= {key.replace("__", "."): value for key, value in overrides.items()}
    return train(command, "--config", "configs/eqvae/tiny-shapes.yaml", settings, *words)


def identity(folder):
    autoencoder = load_autoencoder(folder)
    return autoencoder.fingerprint(), autoencoder.normalization


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    stage_one("fit", folder)
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture
def start():
    return load_autoencoder("shapes-f4c8").fingerprint()


def test_the_record_tells_where_the_weights_come_from(run, start):
    origin = read_export_record(run / "autoencoder")["origin"]
    normalization = load_autoencoder("shapes-f4c8").normalization
    constants = {"shift": list(normalization.shift), "scale": list(normalization.scale)}
    public = {"kind": "packaged", "source": "shapes-f4c8"}
    assert origin["start"] == {**public, "fingerprint": start, "normalization": constants}
    assert origin["num_steps"] == 6
    assert origin["data"] == {"name": "shapes", "num_images": 48, "image_size": 32}
    recipe = origin["recipe"]
    assert recipe["config"] == "tiny-shapes"
    assert recipe["regularizers"][0].startswith("equivariance: scale isotropic, rotation quarter")
    assert recipe["loss"][0].startswith("L1 distance of pixels")
    assert recipe["global_batch_size"] == 4
    assert identity(run / "autoencoder")[0] != start


def test_the_normalization_of_the_start_can_be_kept(run, tmp_path):
    """What generators of the base model expect; else it is estimated on the training images."""
    kept = stage_one("fit", tmp_path / "run", model__init_args__normalization="start")
    of_start = load_autoencoder("shapes-f4c8").normalization
    fingerprint, normalization = identity(tmp_path / "run/autoencoder")
    assert normalization == kept.model.autoencoder.normalization == of_start
    assert (fingerprint, of_start) != identity(run / "autoencoder")
    assert fingerprint == identity(run / "autoencoder")[0], "weights do not depend on it"


def test_a_normalization_that_is_unknown_is_estimated_and_said_so(caplog):
    autoencoder = load_autoencoder("shapes-f4c8")
    autoencoder.normalization = None
    assert not AutoencoderExport(None, 8, autoencoder, keeps_normalization=True).keeps_normalization
    assert "the start's is unknown, it will be estimated" in caplog.text
    with pytest.raises(ValueError, match="normalization 'mine' is unknown: use estimated or start"):
        AutoencoderModule("shapes-f4c8", normalization="mine")


def test_the_card_tells_what_the_record_does_and_no_folder_of_this_machine(run):
    card = ModelCard.load(run / "autoencoder" / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.base_model is None, "a packaged one is on no hub"
    assert {"autoencoder", "equivariance"} <= set(card.data.tags)
    for told in ("`shapes-f4c8`, packaged with eqvae", "tiny-shapes", "| steps | 6 |", "| number | 48 |"):
        assert told in card.text
    texts = [path.read_bytes() for path in (run / "autoencoder").iterdir() if path.suffix != ".safetensors"]
    assert len(texts) == 3
    assert not any(str(run.parent).encode() in text for text in texts)


def test_a_signal_during_the_normalization_ends_at_once_and_resuming_exports(run, tmp_path, monkeypatch, caplog):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LatentStatistics, "update", interrupted)
    with pytest.raises(SystemExit) as stop:
        stage_one("fit", tmp_path)
    monkeypatch.undo()
    assert stop.value.code == 143
    assert not (tmp_path / "autoencoder").exists()
    stage_one("fit", tmp_path, "--resume")
    assert "there is nothing to train" in caplog.text
    assert identity(tmp_path / "autoencoder") == identity(run / "autoencoder")


def test_a_finished_checkpoint_given_by_name_exports_too(run, copy):
    shutil.rmtree(copy / "autoencoder")
    stage_one("fit", copy, f"--ckpt_path={copy / 'checkpoints' / 'last.ckpt'}")
    assert identity(copy / "autoencoder") == identity(run / "autoencoder")


def test_an_extended_run_exports_what_an_undisturbed_one_would(copy, tmp_path):
    stage_one("fit", copy, "--resume", trainer__max_steps=9, model__init_args__decay="constant")
    stage_one("fit", tmp_path / "whole", "--ckpt_path", copy / "checkpoints" / "last.ckpt", trainer__max_steps=9)
    assert load_checkpoint(copy / "checkpoints" / "last.ckpt")["global_step"] == 9
    assert read_export_record(copy / "autoencoder")["origin"]["num_steps"] == 9
    assert identity(copy / "autoencoder") == identity(tmp_path / "whole" / "autoencoder")


def test_what_lies_in_the_place_of_the_export_is_found_before_training(tmp_path):
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "autoencoder" / "precious.txt").touch()
    with pytest.raises(ValueError, match=r"holds precious\.txt"):
        stage_one("fit", tmp_path / "run", model__init_args__export_folder=tmp_path / "autoencoder")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_weights_that_are_not_finite_at_the_last_step_save_and_export_nothing(tmp_path, monkeypatch):
    """Gradients that nobody looks at after they were clipped."""

    def ruin(gradients, max_norm):
        for parameter in gradients.parameters:
            if parameter.grad is not None:
                parameter.grad.fill_(torch.nan)

    monkeypatch.setattr(Gradients, "clip", ruin)
    with pytest.raises(ValueError, match="not finite"):
        stage_one("fit", tmp_path, trainer__max_steps=1, model__init_args__gradient_clip_norm="1.0")
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").iterdir())
    assert not (tmp_path / "autoencoder").exists()


def test_a_learning_rate_that_is_not_finite_saves_nothing(tmp_path):
    with pytest.raises(ValueError, match="learning_rate must be at least 0 and finite, got inf"):
        stage_one("fit", tmp_path, trainer__max_steps=1, model__init_args__learning_rate=".inf")
    assert not (tmp_path / "autoencoder").exists()


def test_predict_caches_what_the_run_exported(copy, start, caplog):
    stage_one("predict", copy)
    fingerprint, normalization = identity(copy / "autoencoder")
    manifest = read_manifest(copy / "latents")
    assert manifest["autoencoder_fingerprint"] == fingerprint != start
    assert manifest["latents"]["normalization"]["shift"] == list(normalization.shift)
    assert f"{copy / 'autoencoder'}, which the run in {copy} exported at step 6" in caplog.text


@pytest.mark.parametrize("command", ["predict", "validate", "test"])
def test_a_run_that_exported_nothing_is_not_passed_off_as_its_start(copy, command, tmp_path):
    shutil.rmtree(copy / "autoencoder")
    with pytest.raises(ValueError, match=r"has exported no autoencoder .*fit --resume.*default_root_dir") as error:
        stage_one(command, copy)
    assert "shapes-f4c8" in str(error.value)
    shutil.rmtree(copy / "checkpoints")  # it did not even come to its first checkpoint
    with pytest.raises(ValueError, match="has exported no autoencoder"):
        stage_one(command, copy)
    assert not (copy / "latents").exists()


def test_in_a_folder_without_a_run_the_named_autoencoder_is_cached(tmp_path, start, caplog):
    stage_one("predict", tmp_path)
    assert read_manifest(tmp_path / "latents")["autoencoder_fingerprint"] == start
    assert f"autoencoder: shapes-f4c8, no run has begun in {tmp_path}" in caplog.text


def test_a_third_autoencoder_in_a_run_s_folder_is_refused_with_both(copy, tmp_path):
    other = load_autoencoder("shapes-f4c8")
    with torch.no_grad():
        other.last_layer.mul_(1.01)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=rf"made {copy / 'autoencoder'} of shapes-f4c8, .* {tmp_path / 'other'}:"):
        stage_one("predict", copy, model__init_args__autoencoder=tmp_path / "other")
    stage_one("predict", copy, model__init_args__autoencoder=copy / "autoencoder")  # one of the two
    assert read_manifest(copy / "latents")["autoencoder_fingerprint"] == identity(copy / "autoencoder")[0]


def test_validate_measures_the_export_or_the_checkpoint_that_is_named(copy, caplog):
    exported = stage_one("validate", copy).model.autoencoder.fingerprint()
    assert exported == identity(copy / "autoencoder")[0]
    shutil.rmtree(copy / "autoencoder")
    path = copy / "checkpoints" / "last.ckpt"
    assert stage_one("validate", copy, f"--ckpt_path={path}").model.autoencoder.fingerprint() == exported
    assert f"the weights of {path}" in caplog.text
    with pytest.raises(ValueError, match="--ckpt_path cannot say otherwise"):
        stage_one("predict", copy, f"--ckpt_path={path}")


def test_what_a_run_started_from_cannot_be_changed(copy, tmp_path):
    load_autoencoder("shapes-f4c8").save_pretrained(tmp_path / "same")
    change = {"trainer__max_steps": 7, "model__init_args__autoencoder": tmp_path / "same"}
    stage_one("fit", copy, "--resume", **change)  # the same weights in another place
    other = load_autoencoder("shapes-f4c8")
    with torch.no_grad():
        other.last_layer.mul_(1.01)
    other.save_pretrained(tmp_path / "other")
    change = {"trainer__max_steps": 8, "model__init_args__autoencoder": tmp_path / "other"}
    with pytest.raises(ValueError, match=rf"/same -> {tmp_path / 'other'}: a run cannot change what it"):
        stage_one("fit", copy, "--resume", **change)


def test_overwrite_removes_the_export_before_the_new_run_begins(copy, monkeypatch):
    def fails(*_):
        raise ValueError("the new run fails")

    monkeypatch.setattr("eqvae.module.AutoencoderModule.on_fit_start", fails)
    with pytest.raises(ValueError, match="the new run fails"):
        stage_one("fit", copy, "--overwrite")
    monkeypatch.undo()
    assert not (copy / "autoencoder").exists()
    with pytest.raises(ValueError, match="has exported no autoencoder"):
        stage_one("predict", copy)

"""Trainings asked for from Python are those of `train.py`: the same words reach the same command line."""

import signal
from types import SimpleNamespace

import pytest

import eqvae
from dit import train_generator
from eqvae.training import from_python
from eqvae.training.from_python import run_training


@pytest.fixture
def words(monkeypatch):
    """What a command line is given, in place of running it."""
    given = []
    monkeypatch.setattr(from_python, "TrainCLI", lambda words: given.append(words))
    return given


def options(words):
    """Option -> value, of a command line."""
    return dict(word.removeprefix("--").partition("=")[::2] for word in words[3:])


def test_settings_become_the_options_of_a_command_line(words, tmp_path):
    settings = {"a.path": tmp_path, "b.none": None, "c.flag": True, "d.list": [0.5, 0.9], "e.text": "1e-3", "f.map": {}}
    run_training("fit", "tiny-shapes", ("eqvae",), settings, "--resume")
    command, config, path, *rest = words[0]
    assert (command, config) == ("fit", "--config")
    assert path.endswith("eqvae/tiny-shapes.yaml")
    expected = [f"a.path={tmp_path}", "b.none=null", "c.flag=true", "d.list=[0.5, 0.9]", "e.text=1e-3", "f.map={}"]
    assert rest == [*(f"--{each}" for each in expected), "--resume"]
    with pytest.raises(ValueError, match="no packaged config is called tiny-sit"):
        run_training("fit", "tiny-sit", ("eqvae",), {})


@pytest.fixture
def finished(monkeypatch):
    """A training that ends at once, and leaves the packaged autoencoder."""
    given = []
    model = SimpleNamespace(export_path=lambda root: "shapes-f4c8")
    trainer = SimpleNamespace(default_root_dir="here", checkpoint_callback=None)

    def command_line(words):
        given.append(words)
        return SimpleNamespace(model=model, trainer=trainer)

    monkeypatch.setattr(from_python, "TrainCLI", command_line)
    return given


def test_what_is_left_out_is_as_the_config_has_it(finished):
    tuned = eqvae.fine_tune("tiny-shapes")
    assert options(finished[0]) == {}
    assert not any(parameter.requires_grad for parameter in tuned.parameters())
    eqvae.fine_tune("tiny-shapes", "r", image_size=16, max_steps=3, overwrite=True, overrides={"trainer.max_steps": 4})
    assert options(finished[1]) == {
        "trainer.default_root_dir": "r",
        "trainer.max_steps": "4",
        "overwrite": "",
        "data.init_args.train.init_args.image_size": "16",
        "data.init_args.validation.init_args.image_size": "16",
    }


def test_images_are_named_in_a_word(finished):
    eqvae.fine_tune("scenes", autoencoder="shapes-f4c8", images="shapes:60:7")
    given = options(finished[0])
    assert given["model.init_args.autoencoder"] == "shapes-f4c8"
    assert given["data.init_args.train"] == (
        "{class_path: eqvae.data.shapes.ShapesSource, init_args: {image_size: 32, num_images: 60, seed: 7}}"
    )
    assert given["data.init_args.validation"] == "null", "the config's own images are of another kind"
    eqvae.fine_tune("tiny-shapes", images="own/folder", held_out="held/out", image_size=64)
    given = options(finished[1])
    assert "root: own/folder" in given["data.init_args.train"]
    assert "image_size: 64" in given["data.init_args.validation"]


def test_a_config_without_a_size_of_images_asks_for_it(finished, tmp_path):
    (tmp_path / "own.yaml").write_text("trainer: {max_steps: 1}")
    with pytest.raises(ValueError, match=r"own\.yaml states no size of images: give image_size"):
        eqvae.fine_tune(tmp_path / "own.yaml", images="shapes:60")
    assert not finished


def test_held_out_latents_are_those_beside_the_cache(finished, tmp_path):
    (tmp_path / "latents").mkdir()
    assert train_generator("tiny-sit", tmp_path / "latents", resume=True).name == "last.ckpt"
    (tmp_path / "latents-validation").mkdir()
    train_generator("tiny-sit", tmp_path / "latents")
    train_generator("tiny-sit")
    first, second, third = map(options, finished)
    assert first == {
        "data.init_args.cache": str(tmp_path / "latents"),
        "data.init_args.validation_cache": "null",
        "resume": "",
    }
    assert second["data.init_args.validation_cache"] == str(tmp_path / "latents-validation")
    assert third == {}


def test_an_interrupted_training_leaves_the_program_its_handlers(monkeypatch):
    def interrupted(words):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(130)

    monkeypatch.setattr(from_python, "TrainCLI", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_training("fit", "tiny-shapes", ("eqvae",), {})
    assert signal.getsignal(signal.SIGINT) is before


def test_a_mistake_is_a_line():
    with pytest.raises(ValueError, match=r"model\.init_args\.learnin_rate is unknown: did you mean learning_rate\?"):
        eqvae.fine_tune("tiny-shapes", overrides={"model.init_args.learnin_rate": 1})


def test_the_size_of_images_is_that_of_the_source_within_another(finished):
    """CIFAR-10 is read from parquet files and kept in memory: the outer source has no size of its own."""
    eqvae.fine_tune("cifar10", image_size=16)
    inner = "data.init_args.{}.init_args.source.init_args.image_size"
    assert options(finished[0]) == {inner.format("train"): "16", inner.format("validation"): "16"}
    eqvae.fine_tune("cifar10", images="own/folder")
    assert "image_size: 32" in options(finished[1])["data.init_args.train"]

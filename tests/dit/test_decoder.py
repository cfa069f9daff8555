"""A generator's autoencoder: the cache's own unless another place is named, and never another one."""

import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from dit.checkpoints import load_generator
from eqvae.autoencoders import Normalization, load_autoencoder
from eqvae.autoencoders.places import describe_place, find_place
from eqvae.latents import open_cache
from tests.tiny import stage_one, stage_two


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with an autoencoder and the cache that it made."""
    autoencoder = load_autoencoder("shapes-f4c8")
    with torch.no_grad():
        autoencoder.last_layer.mul_(1.01)
    autoencoder.save_pretrained(tmp_path / "runs" / "a" / "autoencoder")
    cli = stage_one(tmp_path / "runs" / "a")
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    return tmp_path / "runs" / "a"


def fit(folder, cache, **overrides):
    overrides = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0} | overrides
    cli = stage_two(folder, cache, overrides)
    cli.trainer.fit(cli.model, cli.datamodule)
    return cli


def source_in(folder):
    return load_generator(folder / "checkpoints" / "last.ckpt").autoencoder_source


def test_a_checkpoint_names_the_autoencoder_of_its_cache(run, tmp_path):
    assert fit(tmp_path / "b", run / "latents").model.autoencoder_source == str(run / "autoencoder")
    source = source_in(tmp_path / "b")
    assert load_autoencoder(source).fingerprint() == load_autoencoder(run / "autoencoder").fingerprint()


@pytest.mark.reliability(18, counts="refusals")
def test_another_autoencoder_is_refused_with_both_places(run, tmp_path):
    with pytest.raises(ValueError, match="its weights are") as error:
        fit(tmp_path / "b", run / "latents", **{"model.init_args.autoencoder": "shapes-f4c8"})
    for place in ("shapes-f4c8", str(run / "latents"), str(run / "autoencoder")):
        assert place in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b" / "checkpoints").exists()


@pytest.mark.reliability(18, counts="refusals")
def test_another_normalization_is_refused(run, tmp_path):
    other = load_autoencoder(run / "autoencoder")
    other.normalization = Normalization((0.0,), (2.0,))
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="its latent normalization is another"):
        fit(tmp_path / "b", run / "latents", **{"model.init_args.autoencoder": tmp_path / "other"})


@pytest.mark.reliability(18, counts="refusals")
def test_an_autoencoder_that_was_trained_on_meanwhile_is_refused(run, tmp_path):
    """The folder is the one that the cache names; what is in it is not."""
    load_autoencoder("shapes-f4c8").save_pretrained(run / "autoencoder")
    with pytest.raises(ValueError, match=rf"{run / 'autoencoder'} did not make the latent cache {run / 'latents'}"):
        fit(tmp_path / "b", run / "latents")


@pytest.mark.reliability(18, counts="refusals")
@pytest.mark.parametrize("command", ["sample.py", "evaluate.py alignment"])
def test_samples_and_measures_refuse_another_autoencoder_with_both_fingerprints(
    command, run, tmp_path, monkeypatch, capsys
):
    fit(tmp_path / "b", run / "latents")
    script, *words = command.split()
    words += ["--checkpoint", str(tmp_path / "b/checkpoints/last.ckpt"), "--autoencoder", "shapes-f4c8"]
    words += ["--data", "shapes:24"] if script == "evaluate.py" else ["--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit):
        import_module(script.removesuffix(".py")).main()
    error = capsys.readouterr().err
    for source in ("shapes-f4c8", run / "autoencoder"):
        assert load_autoencoder(source).fingerprint()[:12] in error
    assert error.count("\n") == 1


def test_the_same_weights_in_another_place_are_taken_as_named(run, tmp_path):
    shutil.copytree(run / "autoencoder", tmp_path / "copy")
    fit(tmp_path / "b", run / "latents", **{"model.init_args.autoencoder": tmp_path / "copy"})
    assert source_in(tmp_path / "b") == str(tmp_path / "copy")


def test_a_moved_run_folder_keeps_its_autoencoder(run, tmp_path):
    moved = run.rename(tmp_path / "elsewhere")
    assert open_cache(moved / "latents").autoencoder_source == str(moved / "autoencoder")
    fit(tmp_path / "b", moved / "latents")
    assert source_in(tmp_path / "b") == str(moved / "autoencoder")


def test_a_missing_autoencoder_is_a_reason_only_where_it_is_named(run, tmp_path):
    shutil.rmtree(run / "autoencoder")
    with pytest.warns(UserWarning, match="sampling will need it"):
        fit(tmp_path / "b", run / "latents")
    with pytest.raises(ValueError, match=rf"model\.init_args\.autoencoder: .*{run / 'autoencoder'}"):
        fit(tmp_path / "c", run / "latents", **{"model.init_args.autoencoder": run / "autoencoder"})


@pytest.mark.parametrize(
    "source",
    [
        "shapes-f4c8",
        "owner/name/vae",
        {"source": "owner/name", "padding_mode": "reflect"},
        {"source": "vae.ckpt", "config": {"family": "sdxl"}},
    ],
)
def test_places_are_found_again(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vae.ckpt").touch()
    (tmp_path / "cache").mkdir()
    described = describe_place(source, "cache")
    monkeypatch.chdir("/")
    expected = source if "vae.ckpt" not in str(source) else source | {"source": str(tmp_path / "vae.ckpt")}
    assert find_place(described, tmp_path / "cache") == expected


def test_random_weights_and_older_caches_have_no_place(tmp_path):
    assert describe_place({"block_out_channels": [8]}, tmp_path) is None
    assert describe_place(None, tmp_path) is None
    assert find_place(None, tmp_path) is None

"""What a command must not do with what it is given: measure what was not made, write over what was, finish half."""

import json
from importlib import import_module

import numpy as np
import pytest
from lightning.pytorch.callbacks import Callback
from PIL import Image

from dit.backbones import SiT
from dit.previews import SamplePreviews
from eqvae.autoencoders import load_autoencoder
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.hashes import read_json
from tests.dit.tiny import save_generator, tiny_generator
from tests.tiny import TINY_AUTOENCODER, stage_one
from twostage.loading import load_sweep


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    autoencoder = load_autoencoder(TINY_AUTOENCODER).freeze()
    autoencoder.save_pretrained(folder / "autoencoder")
    return save_generator(tiny_generator(SiT, autoencoder), str(folder / "autoencoder"), folder / "last.ckpt")


def run(monkeypatch, name, *words):
    monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, words)])
    monkeypatch.setenv("EQVAE_DEBUG", "1")  # errors as they are raised
    import_module(f"twostage.cli.{name}").main()


@pytest.fixture
def samples(checkpoint, tmp_path, monkeypatch):
    """Writes samples with these options into a folder, which it returns."""

    def write(name="samples", *options, count=4):
        words = ("--num-images", count, "--num-inference-steps", 2, *options)
        run(monkeypatch, "sample", "--checkpoint", checkpoint, "--output", tmp_path / name, *words)
        return tmp_path / name

    return write


@pytest.fixture
def measure(monkeypatch, tmp_path):
    def result(folder, *options):
        words = ("--generated", folder, "--reference", "shapes:12:1", "--output", tmp_path / "result.json")
        run(monkeypatch, "evaluate", "generation", *words, *options)
        return read_json(tmp_path / "result.json")

    return result


def test_images_that_were_there_before_are_not_taken_for_samples(samples, tmp_path):
    (tmp_path / "stale").mkdir()
    np.savez(tmp_path / "stale" / "samples.npz", arr_0=np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"stale holds samples\.npz without samples\.json"):
        samples("stale")
    folder = samples("gone", "--npz")
    (folder / "samples.json").unlink()
    with pytest.raises(ValueError, match=r"gone holds samples\.npz without samples\.json"):
        samples("gone", "--npz", "--seed", 3)


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_images_that_were_changed_are_neither_measured_nor_called_finished(kind, samples, measure, capsys):
    folder = samples("samples", f"--{kind}")
    before = measure(folder)["fd_efficientnet_lite0"]
    if kind == "npz":
        np.savez(folder / "samples.npz", arr_0=np.zeros((4, 16, 16, 3), np.uint8))
    else:
        Image.new("RGB", (16, 16)).save(folder / "000002.png")
    with pytest.raises(ValueError, match="other images than were sampled: start sample"):
        measure(folder)
    capsys.readouterr()
    samples("samples", f"--{kind}")
    assert "sampling them again" in capsys.readouterr().out
    assert measure(folder)["fd_efficientnet_lite0"] == pytest.approx(before, rel=1e-6)


def test_a_stranger_among_the_samples_is_named(samples, measure):
    folder = samples("samples", "--png")
    Image.new("RGB", (16, 16)).save(folder / "holiday.png")
    with pytest.raises(ValueError, match=r"samples holds holiday\.png, which sample\.py did not write"):
        measure(folder)


def test_an_output_replaces_results_alone(samples, measure, monkeypatch, tmp_path):
    folder = samples("samples", "--npz")
    array = folder / "samples.npz"
    before = array.read_bytes()
    words = ("evaluate", "generation", "--generated", array, "--reference", "shapes:12:1", "--output")
    with pytest.raises(ValueError, match=r"--output .*samples\.npz exists and is no result of evaluate\.py"):
        run(monkeypatch, *words, array)
    with pytest.raises(ValueError, match=r"--output .*samples\.json exists and is no result"):
        run(monkeypatch, *words, folder / "samples.json")
    assert array.read_bytes() == before
    measure(folder)
    measure(folder)  # its own earlier result


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("images/0.png", r"--figure .* is there, in .*images, which is read"),
        ("panel.jpg", "figures are PNG files"),
        ("result.png", "--figure and --output are both"),
    ],
)
def test_a_figure_takes_no_other_file_s_place(figure, message, monkeypatch, tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(3):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(tmp_path / "images" / f"{index}.png")
    before = (tmp_path / "images" / "0.png").read_bytes()
    words = ("--autoencoder", "shapes-f4c8", "--data", tmp_path / "images", "--output", tmp_path / "result.png")
    with pytest.raises(ValueError, match=message):
        run(monkeypatch, "evaluate", "reconstruction", *words, "--figure", tmp_path / figure)
    assert (tmp_path / "images" / "0.png").read_bytes() == before
    assert not (tmp_path / "result.png").exists()


def test_results_against_other_references_do_not_compare(samples, measure, tmp_path, capsys):
    folder = samples("samples", "--npz")
    measure(folder)
    (tmp_path / "result.json").rename(tmp_path / "first.json")
    measure(folder, "--reference", "shapes:12:2", "--compare-with", tmp_path / "first.json")
    assert "these results do not compare: reference fingerprint" in " ".join(capsys.readouterr().err.split())
    content = json.loads((tmp_path / "first.json").read_text())
    assert content["num_generated"] == 4


def test_samples_that_are_not_finite_are_not_written(samples, tmp_path):
    with pytest.raises(ValueError, match=r"image 0 is not finite \(heun, guidance_scale 1e\+30\): it is not written"):
        samples("infinite", "--guidance-scale", "1e30", "--npz")
    assert not (tmp_path / "infinite" / "samples.npz").exists()


def test_a_figure_is_drawn_again_in_a_folder_that_is_called_like_the_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ("--autoencoder", "shapes-f4c8", "--data", "shapes:8:1", "--image-size", 32)
    for _ in range(2):
        run(monkeypatch, "evaluate", "reconstruction", *words, "--figure", "reconstruction/panel.png")
    assert (tmp_path / "reconstruction" / "panel.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-heads", 7), "num_heads"),
        (("--family", "DiT"), "family"),
        (("--guidance-scale", 2, "--guidance-interval", 5, 10), r"times lie in \[0, 1\]"),
    ],
)
def test_options_that_cannot_act_are_refused(words, message, samples):
    with pytest.raises(ValueError, match=message):
        samples("samples", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--extractor-weights", "nowhere.pt"), "needs no file"),
        (("--lpips-weights", "nowhere.pt"), "--lpips-weights nowhere.pt: --perceptual efficientnet_lite0 needs none"),
        (("--autoencoder", "shapes-f4c8"), "--autoencoder shapes-f4c8 is given twice"),
        (("--image-size", 100_000), "--image-size must be at least 1 and at most 16384"),
    ],
)
def test_measurements_refuse_what_cannot_act(words, message, monkeypatch):
    given = ("--autoencoder", "shapes-f4c8", "--data", "shapes:8:1", *words)
    with pytest.raises(ValueError, match=message):
        run(monkeypatch, "evaluate", "reconstruction", *given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainer.limit_train_batches": 0}, "trainer.limit_train_batches 0: nothing would be trained"),
        (
            {"trainer.limit_train_batches": 2, "trainer.max_epochs": -1},
            "limit_train_batches 2 with trainer.max_epochs -1",
        ),
        ({"trainer.max_epochs": 0}, "trainer.max_epochs 0: nothing would be trained"),
        ({"trainer.fast_dev_run": True}, "trainer.fast_dev_run True"),
        ({"trainer.val_check_interval": 0}, "trainer.val_check_interval 0"),
        ({"data.init_args.evaluation_batch_size": 0}, "data.init_args.evaluation_batch_size must be at least 1"),
        ({"model.init_args.num_normalization_images": 0}, "num_normalization_images must be at least 1"),
        ({"trainer.gradient_clip_val": 1.0}, "model.init_args.gradient_clip_norm"),
        ({"trainer.accumulate_grad_batches": 2}, "model.init_args.accumulate_batches"),
        ({"data.init_args.validation.init_args.num_images": 1}, "data.init_args.validation: 1 image"),
    ],
)
def test_a_training_that_could_not_end_well_does_not_begin(settings, message, tmp_path, monkeypatch):
    words = [f"--{key}={value}" for key, value in settings.items()]
    where = f"--trainer.default_root_dir={tmp_path / 'run'}"
    with pytest.raises(ValueError, match=message):
        run(monkeypatch, "train", "fit", "--config", "tiny-shapes", where, "--trainer.max_steps=2", *words)
    assert not (tmp_path / "run" / "autoencoder").exists()
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_a_cache_of_some_images_is_refused_at_once(tmp_path, monkeypatch):
    words = ("--config", "tiny-shapes", f"--trainer.default_root_dir={tmp_path}", "--trainer.limit_predict_batches=1")
    with pytest.raises(ValueError, match=r"trainer\.limit_predict_batches 1: a cache holds all images"):
        run(monkeypatch, "train", "predict", *words)


def test_a_ranking_writes_nothing_when_a_form_is_refused(tmp_path, monkeypatch):
    words = ("demo", "--every-eval-ever", "us", "--hub-results", "bad", "--output", tmp_path / "ranks")
    with pytest.raises(ValueError, match="benchmark 'bad'"):
        run(monkeypatch, "rank", *words)
    assert not (tmp_path / "ranks").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "root="), "root: give the folder"),
        (("--set", "executor.kind=foo"), "executor"),
        (("--seeds", "10", "10"), "10 is given twice"),
    ],
)
def test_a_verification_that_cannot_run_leaves_nothing(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(monkeypatch, "verify", "demo", *words)
    assert not list(tmp_path.rglob("verify.yaml"))


def test_a_file_is_no_folder_of_images(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is a file: give the folder that it lies in"):
        run(monkeypatch, "evaluate", "images", "--data", tmp_path / "a.png")


def test_more_readers_than_batches_are_not_started(monkeypatch):
    from eqvae.data import ShapesSource
    from eqvae.data.module import ImageBatches
    from eqvae.stream import SequentialBatches

    assert SequentialBatches(ImageBatches(ShapesSource(8, 16)), 4).loader(100_000).num_workers == 2


def test_a_training_that_ended_early_says_so(tmp_path, recwarn):
    class Enough(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step == 2

    cli = stage_one(tmp_path, {"trainer.max_steps": 4, "trainer.limit_val_batches": 0}, callbacks=[Enough()])
    cli.train()
    assert any("ended at step 2 of 4, and so far is what it leaves" in str(each.message) for each in recwarn)


def test_a_run_folder_in_the_place_of_its_checkpoint_is_told_which_one(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(checkpoint.read_bytes())
    with pytest.raises(ValueError, match=f"no checkpoint at {tmp_path}/run: give {last}"):
        run(monkeypatch, "sample", "--checkpoint", tmp_path / "run", "--output", tmp_path / "samples")


def test_samples_that_are_their_own_reference_are_warned_of(samples, measure, capsys):
    array = samples("samples", "--npz") / "samples.npz"
    measure(array, "--reference", array)
    assert "it is measured against itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.labels=99", r"evaluation\.labels.*99"),
        (
            "evaluation.extractor_weights=nowhere.pt",
            r"extractor_weights nowhere\.pt: efficientnet_lite0 has its weights",
        ),
    ],
)
def test_what_no_part_of_a_sweep_can_use_is_found_before_it_runs(override, message):
    with pytest.raises(ValueError, match=message):
        load_sweep("tiny-shapes", [override])


@pytest.mark.parametrize("build", [AutoencoderEvaluation, SamplePreviews])
def test_weights_for_a_packaged_network_are_refused_before_anything_is_trained(build):
    with pytest.raises(ValueError, match=r"extractor_weights a\.pt: efficientnet_lite0 has its weights in the package"):
        build(extractor="efficientnet_lite0", extractor_weights="a.pt")

"""What is measured on sets of images as a result: what it tells, what it compares with, and the command line."""

import sys

import numpy as np
import pytest
import torch

from eqvae.data import ShapesSource, read_images
from eqvae.evaluation.inputs import open_samples, reference_to_feature_set
from eqvae.evaluation.measuring_samples import measure_generation
from eqvae.evaluation.sample_folders import images_of_array, images_of_single_files, images_to_sha256
from eqvae.evaluation.tables import (
    comparison_table,
    is_better,
    load_result,
    save_result,
    warn_of_different_conditions,
)
from eqvae.hashes import read_json, write_json
from tests.eqvae.image_sets import PixelFeatures, random_images, save_images, statistics
from twostage.cli import evaluate

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upward")

FINISHED = {"finished": True, "num_images": 2, "part_size": 12, "images_sha256": "0" * 64}


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
    evaluate.main()


def test_images_of_two_sizes_are_not_compared(tmp_path):
    """Features would tell of the size: 60 shapes of 32 and of 64 pixels had a kernel distance of .33 for .003."""
    samples = ShapesSource(8, 32).images
    for reference in (ShapesSource(8, 64, 1), ShapesSource(8, 64, 1).images):
        with pytest.raises(ValueError, match="reference and samples have 64 x 64 and 32 x 32 pixels"):
            measure_generation(samples, reference)
    wide = samples[:, :, :16]
    with pytest.raises(ValueError, match="samples of 16 x 32 pixels: a named reference is square"):
        measure_generation(wide, "shapes:8:1")
    assert measure_generation(wide, wide, metrics=["fd"])["image_size"] == 32


def test_results_say_what_they_hold_for(tmp_path, monkeypatch, capsys):
    samples = tmp_path / "samples"
    samples.mkdir()
    save_images(samples / "samples.npz", read_images("shapes:12:2", 16))
    made = {"images_sha256": images_to_sha256(images_of_array(samples), [range(12)])}
    write_json(samples / "samples.json", FINISHED | made | {"num_images": 12, "uint8_rule": "truncate"})
    words = ["generation", "--generated", samples, "--reference", "shapes:12:1", "--statistics-cache", tmp_path / "c"]
    run(monkeypatch, *words, "--output", tmp_path / "a.json")
    result = read_json(tmp_path / "a.json")
    assert {"fd_efficientnet_lite0", "sfd_efficientnet_lite0", "is_efficientnet_lite0", "kid", "recall"} < set(result)
    assert "fid" not in result
    assert (result["num_reference"], result["num_generated"], result["image_size"]) == (12, 12, 16)
    assert (result["uint8_rule"], result["extractor"]) == ("truncate", "efficientnet_lite0")
    assert (result["features_reference"], result["features_generated"]) == ("all", "all")
    assert result["score_order"] == "given"
    assert (result["images"], result["reference"]["images"]) == ("all 12", "all 12")
    assert result["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    capsys.readouterr()
    run(monkeypatch, *words, "--num-images", 8, "--compare-with", tmp_path / "a.json")
    assert "num_generated 12 and 8" in " ".join(capsys.readouterr().err.split())


def test_samples_that_are_not_all_there_are_refused(tmp_path):
    write_json(tmp_path / "samples.json", FINISHED | {"finished": False})
    with pytest.raises(ValueError, match=r"is not finished: start sample\.py again"):
        open_samples(str(tmp_path), 16)
    (tmp_path / "samples.json").write_text('{"uint8_rule": "round", "finished": true}')
    with pytest.raises(ValueError, match=r"samples\.json is damaged"):
        open_samples(str(tmp_path), 16)


def test_a_folder_of_samples_leaves_its_grid_out(tmp_path):
    from PIL import Image

    for name in ("grid", "000000", "000001"):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    made = {"images_sha256": images_to_sha256(images_of_single_files(tmp_path), [range(2)])}
    write_json(tmp_path / "samples.json", FINISHED | made)
    for size in (16, None):  # None: that of the images
        assert open_samples(str(tmp_path), size)[0][1][0].shape == (3, 16, 16)
    assert len(open_samples(str(tmp_path), 16)[0]) == 2
    (tmp_path / "000001.png").unlink()
    with pytest.raises(ValueError, match=r"has 1 of 2 images: start sample\.py again"):
        open_samples(str(tmp_path), 16)


@pytest.mark.parametrize("kept", ["png", "npz"])
def test_samples_as_a_reference_are_read_as_samples(kept, tmp_path):
    """Their grid was one of the real images, or the only one."""
    from PIL import Image

    images, folder = random_images(6), tmp_path / "samples"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "grid.png")
    if kept == "npz":
        save_images(folder / "samples.npz", images)
    for index, image in enumerate(images.permute(0, 2, 3, 1).numpy() if kept == "png" else ()):
        Image.fromarray(image).save(folder / f"{index:06d}.png")
    images_of = images_of_array(folder) if kept == "npz" else images_of_single_files(folder)
    made = {"num_images": 6, "images_sha256": images_to_sha256(images_of, [range(6)])}
    write_json(folder / "samples.json", FINISHED | made)
    found = measure_generation(random_images(6, seed=1), str(folder), metrics=["fd"], statistics_cache=tmp_path / "c")
    assert found["num_reference"] == 6
    expected = measure_generation(random_images(6, seed=1), images, metrics=["fd"])
    assert found["fd_efficientnet_lite0"] == expected["fd_efficientnet_lite0"]


@pytest.mark.parametrize("command", ["reconstruction", "latents"])
def test_two_autoencoders_side_by_side(command, tmp_path, monkeypatch):
    twice = ["--autoencoder", "shapes-f4c8", "--autoencoder", "eqvae/autoencoders/pretrained/shapes-f4c8"]
    chosen = ["--predictors", "slope", "equivariance"] if command == "latents" else []
    run(monkeypatch, command, *chosen, *twice, "--data", "shapes:6:1", "--output", tmp_path / "both.json")
    result = read_json(tmp_path / "both.json")
    assert set(result) == {"first", "second", "differences"}
    assert all(value == pytest.approx(0, abs=1e-4) for value in result["differences"].values())
    expected = {"psnr", "psnr_std", "uint8_rule"} if command == "reconstruction" else {"spectrum_power", "shift"}
    assert expected | {"crop", "image_size", "num_images", "versions"} <= set(result["first"])


def test_a_saved_result_carries_its_hash(tmp_path):
    path = tmp_path / "a.json"
    save_result(path, {"fid": 2.5, "extractor": "inception_v3"})
    assert load_result(path) == {"fid": 2.5, "extractor": "inception_v3"}
    whole = path.read_bytes()
    for content in (whole.replace(b"2.5", b"1.5"), whole[:-20], b"", b"{}", b"[]", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^{path} is damaged") as error:
            load_result(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no file at"):
        load_result(tmp_path / "none.json")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), [1.0, float("nan")]])
def test_results_with_numbers_that_are_none_are_refused(tmp_path, number):
    with pytest.raises(ValueError, match=r"a\.json is not written: kid is .*, not a finite number"):
        save_result(tmp_path / "a.json", {"first": {"kid": number}})
    assert not (tmp_path / "a.json").exists()
    write_json(tmp_path / "b.json", {"extractor": "inception_v3", "kid": number, "fid": 1.0})
    with pytest.raises(ValueError, match=r"b\.json: kid is .*, not a finite number"):
        load_result(tmp_path / "b.json")
    for empty in ({}, {"extractor": "inception_v3"}):
        write_json(tmp_path / "c.json", empty)
        with pytest.raises(ValueError, match=r"c\.json is not a saved result"):
            load_result(tmp_path / "c.json")


@pytest.mark.parametrize("name", ["mu", "sigma", "mu_s", "sigma_s"])
@pytest.mark.parametrize("change", ["nan", "text", "object", "wide", "cut"])
def test_stored_statistics_that_are_none_are_refused_by_name(tmp_path, name, change):
    stored = statistics(8, 0) | {f"{key}_s": value for key, value in statistics(6, 7).items()}
    changed = {
        "nan": np.where(np.arange(stored[name].size).reshape(stored[name].shape) == 1, np.nan, stored[name]),
        "text": np.array(["a"] * len(stored[name])),
        "object": np.array([{}] * len(stored[name])),
        "wide": np.zeros(9),
        "cut": stored[name],
    }
    path = tmp_path / "statistics.npz"
    np.savez(path, **stored | {name: changed[change]})
    if change == "cut":
        content = bytearray(path.read_bytes())
        place = content.index(stored[name].tobytes()[:16])
        content[place] ^= 1
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"statistics\.npz.*\b{name}\b") as error:
        reference_to_feature_set(str(path), 16, "inception_v3", cache=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("generation", "--generated", "x", "--reference", "y", "--num-images", "0"), "--num-images"),
        (("generation", "--generated", "x", "--reference", "y", "--num-workers", "-1"), "--num-workers"),
        (("latents", "--autoencoder", "x", "--data", "y", "--image-size", "0"), "--image-size"),
        (("alignment", "--checkpoint", "x", "--data", "y", "--times", "0.5", "nan"), "--times"),
        (("alignment", "--checkpoint", "x", "--data", "y", "--times", "1.5"), "--times"),
        (("alignment", "--checkpoint", "x", "--data", "y", "--neighbours", "0"), "--neighbours"),
    ],
)
def test_numbers_that_nothing_can_be_measured_with(monkeypatch, capsys, words, named):
    with pytest.raises(SystemExit):
        run(monkeypatch, *words)
    error = capsys.readouterr().err
    assert error.startswith(f"error: {named} must be")
    assert error.count("\n") == 1


def test_direction_of_quantities():
    assert is_better("psnr", 1)
    assert is_better("rfid", -1)
    assert is_better("perceptual_lpips_vgg", 1) is False
    assert is_better("intrinsic_dimension", 1) is None
    marks = comparison_table({"psnr": 1.0, "x": 1.0}, {"psnr": 2.0, "x": 1.0}, ("a", "b")).columns[-1]._cells
    assert marks == ["[green]better[/]", ""]
    with pytest.warns(UserWarning, match="num_generated 10000 and 50000"):
        warn_of_different_conditions({"num_generated": 10_000}, {"num_generated": 50_000})


def test_results_on_features_of_other_weights_do_not_compare(tmp_path, monkeypatch):
    for module in ("inputs", "measuring_samples"):
        monkeypatch.setattr(f"eqvae.evaluation.{module}.create_extractor", lambda *given: PixelFeatures())
    results = []
    for content in ("one", "other"):
        (tmp_path / content).write_text(content)
        settings = {"extractor": "inception_v3", "extractor_weights": str(tmp_path / content)}
        results.append(measure_generation(random_images(8), random_images(8, seed=1), metrics=["fd"], **settings))
    with pytest.warns(UserWarning, match="do not compare: extractor_weights [0-9a-f]{64} and [0-9a-f]{64}$"):
        warn_of_different_conditions(*results)

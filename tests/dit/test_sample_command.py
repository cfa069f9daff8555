"""sample.py: parts, interruption, several processes, other settings, what is written at the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sample
from dit.sample_files import SampleFolder
from tests.dit.tiny import save_generator, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder

NUM_IMAGES = 10


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    tiny_autoencoder().save_pretrained(folder / "autoencoder")
    return save_generator(tiny_generator(), str(folder / "autoencoder"), folder / "end.ckpt")


def words(checkpoint: Path, output: Path, *more: str) -> list[str]:
    images = ["--num-images", str(NUM_IMAGES), "--batch-size", "3", "--num-inference-steps", "2", "--device", "cpu"]
    return ["sample.py", "--checkpoint", str(checkpoint), "--output", str(output), "--npz", "--png", *images, *more]


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", words(*arguments))
    sample.main()


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file below a folder, the record with its timing aside."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"}


def test_files_at_the_end(checkpoint, tmp_path, monkeypatch):
    run(monkeypatch, checkpoint, tmp_path / "out", "--guidance-scale", "2")
    with np.load(tmp_path / "out/samples.npz", allow_pickle=False) as arrays:
        assert arrays.files == ["arr_0"]
        images = arrays["arr_0"]
    assert images.shape == (NUM_IMAGES, 16, 16, 3)
    assert images.dtype == np.uint8
    for index, image in enumerate(images):
        assert np.array_equal(np.array(Image.open(tmp_path / f"out/{index:06d}.png")), image)
    assert (tmp_path / "out/grid.png").is_file()
    assert not (tmp_path / "out/parts").exists()
    about = json.loads((tmp_path / "out/samples.json").read_text())
    assert about["guidance_scale"] == 2
    assert about["sampler"] == "heun"
    assert about["num_steps"] == 7
    assert about["finished"]
    assert about["images_per_second"] > 0
    assert about["function_evaluations"] == 4  # two steps of Heun
    assert about["network_passes"] == 8  # conditional and not


def test_guidance_outside_its_interval_costs_nothing(checkpoint, tmp_path, monkeypatch):
    run(monkeypatch, checkpoint, tmp_path / "out", "--guidance-scale", "2", "--guidance-interval", "0.4", "0.6")
    about = json.loads((tmp_path / "out/samples.json").read_text())
    assert about["function_evaluations"] == 4
    assert about["network_passes"] == 6  # both passes at t = 0.5 are guided, those at 0 and 1 are not


def test_interrupted_and_continued_is_identical(checkpoint, tmp_path, monkeypatch, capsys):
    run(monkeypatch, checkpoint, tmp_path / "whole")
    written = SampleFolder.write

    def killed(self, part, images, costs):
        if part.start == 6:
            raise KeyboardInterrupt
        written(self, part, images, costs)

    monkeypatch.setattr(SampleFolder, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, checkpoint, tmp_path / "cut")
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut/parts").glob("*")}
    assert len(parts) == 2
    assert not (tmp_path / "cut/samples.npz").exists()

    made = []
    monkeypatch.setattr(
        SampleFolder, "write", lambda self, part, *rest: [made.append(part), written(self, part, *rest)]
    )
    run(monkeypatch, checkpoint, tmp_path / "cut")
    assert [part.start for part in made] == [6, 9], "finished parts were made again"
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")

    before = contents(tmp_path / "cut")
    run(monkeypatch, checkpoint, tmp_path / "cut")
    assert len(made) == 2
    assert "nothing to do" in capsys.readouterr().out
    assert contents(tmp_path / "cut") == before


@pytest.mark.parametrize("change", [("--seed", "1"), ("--guidance-scale", "1.5"), ("--num-images", "11")])
def test_other_settings_are_refused(checkpoint, tmp_path, monkeypatch, capsys, change):
    run(monkeypatch, checkpoint, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "out", *change)
    error = capsys.readouterr().err
    assert "other settings" in error
    assert change[0].strip("-").replace("-", "_") in error
    assert error.count("\n") == 1
    assert contents(tmp_path / "out") == before


def test_batch_size_changes_no_picture(checkpoint, tmp_path, monkeypatch):
    run(monkeypatch, checkpoint, tmp_path / "three")
    run(monkeypatch, checkpoint, tmp_path / "ten", "--batch-size", "10")
    three, ten = (np.load(tmp_path / name / "samples.npz")["arr_0"].astype(int) for name in ("three", "ten"))
    assert np.abs(three - ten).max() <= 1
    assert (three == ten).mean() >= 0.999


def test_two_processes_share_the_parts(checkpoint, tmp_path, monkeypatch):
    run(monkeypatch, checkpoint, tmp_path / "one")
    environment = os.environ | {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words(checkpoint, tmp_path / "two")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    first, second = (subprocess.Popen(command, env=environment | {"RANK": rank}, **quiet) for rank in "01")
    for process in (second, first):
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 0, error
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_each_process_has_its_own_parts_and_waits_for_all(tmp_path):
    folder = SampleFolder(tmp_path, {"num_images": 5}, part_size=2)
    image = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    costs = {"function_evaluations": 2.0, "network_passes": 2.0, "seconds": 1.0}
    assert [part.start for part in folder.missing(0, 2)] == [0, 4]
    assert [part.start for part in folder.missing(1, 2)] == [2]
    for part in folder.missing(0, 2):
        folder.write(part, image[: len(part)], costs)
    with pytest.raises(ValueError, match="1 parts did not come"):
        folder.wait(patience_seconds=0)
    folder.write(range(2, 4), image, costs)
    folder.wait(patience_seconds=0)
    assert folder.assemble(npz=False, png=False)["images_per_second"] == 5 / 3


def test_a_folder_with_another_record_is_refused(tmp_path):
    (tmp_path / "samples.json").write_text("[]")
    with pytest.raises(ValueError, match="is no record of samples"):
        SampleFolder(tmp_path, {"num_images": 1}, part_size=1)


def test_another_decoder_only_where_it_is_allowed(checkpoint, tmp_path, monkeypatch, capsys):
    other = tiny_autoencoder()
    with torch.no_grad():
        other.model.decoder.conv_out.bias += 0.5
    other.save_pretrained(tmp_path / "other")
    option = ("--autoencoder", str(tmp_path / "other"))
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "refused", *option)
    assert "belongs to another autoencoder" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
    run(monkeypatch, checkpoint, tmp_path / "own")
    run(monkeypatch, checkpoint, tmp_path / "other-samples", *option, "--allow-other-autoencoder")
    own, brighter = (np.load(tmp_path / name / "samples.npz")["arr_0"] for name in ("own", "other-samples"))
    assert brighter.mean() > own.mean() + 20
    about = json.loads((tmp_path / "other-samples/samples.json").read_text())
    assert about["autoencoder_fingerprint"] == other.fingerprint()


def test_an_autoencoder_of_other_latents_is_never_allowed(checkpoint, tmp_path, monkeypatch, capsys):
    tiny_autoencoder(factor=2).save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit):
        run(
            monkeypatch,
            checkpoint,
            tmp_path / "o",
            "--autoencoder",
            str(tmp_path / "other"),
            "--allow-other-autoencoder",
        )
    assert "at 1/4 of the image, the autoencoder decodes 4 at 1/2" in capsys.readouterr().err


def test_noise_of_the_stochastic_sampler_is_an_option(checkpoint, tmp_path, monkeypatch, capsys):
    options = {
        "published": (),
        "twice": ("--diffusion-norm", "2"),
        "form": ("--diffusion", "linear", "--last-step", "none"),
    }
    pictures = {}
    for name, option in options.items():
        run(monkeypatch, checkpoint, tmp_path / name, "--sampler", "euler_maruyama", *option)
        pictures[name] = (tmp_path / name / "samples.npz").read_bytes()
    assert len(set(pictures.values())) == 3
    about = json.loads((tmp_path / "form/samples.json").read_text())
    expected = {"diffusion": "linear", "diffusion_norm": 1.0, "last_step": "none", "last_step_size": 0.04}
    assert about["stochastic"] == expected
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "heun", "--sampler", "heun", "--diffusion-norm", "2")
    assert "takes no stochastic settings" in capsys.readouterr().err


def test_timestep_shift_changes_the_images_and_is_refused_where_it_does_nothing(
    checkpoint, tmp_path, monkeypatch, capsys
):
    for shift in ("1", "0.3"):
        run(monkeypatch, checkpoint, tmp_path / shift, "--sampler", "euler", "--timestep-shift", shift)
    assert contents(tmp_path / "1")["samples.npz"] != contents(tmp_path / "0.3")["samples.npz"]
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "no", "--sampler", "euler_maruyama", "--timestep-shift", "0.3")
    assert "takes no timestep shift" in capsys.readouterr().err

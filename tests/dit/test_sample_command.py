"""sample.py: parts, interruption, several processes, other settings, what is written at the end."""

import json
import os
import sys
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from timm.layers import Mlp
from torch._dynamo.testing import CompileCounter

from dit.checkpoints import load_generator
from dit.sample_files import SampleFolder, fill
from eqvae.locks import Lock
from tests.dit.tiny import save_generator, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from tests.reliability.isolation import FORK
from tests.tiny import stage_two
from twostage.cli import sample

NUM_IMAGES = 34  # four parts, the last one short


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
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".png", ".npz")}


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


def test_latents_that_cannot_be_are_refused_with_the_checkpoint(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["generator"]["latents"]["normalization"]["scale"] = [float("nan")]
    torch.save(content, tmp_path / "nan.ckpt")
    with pytest.raises(ValueError, match=r"nan\.ckpt: its latents cannot be: scale must hold finite numbers, got nan"):
        load_generator(tmp_path / "nan.ckpt")


def test_guidance_outside_its_interval_costs_nothing(checkpoint, tmp_path, monkeypatch):
    run(monkeypatch, checkpoint, tmp_path / "out", "--guidance-scale", "2", "--guidance-interval", "0.4", "0.6")
    about = json.loads((tmp_path / "out/samples.json").read_text())
    assert about["function_evaluations"] == 4
    assert about["network_passes"] == 6  # both passes at t = 0.5 are guided, those at 0 and 1 are not


@pytest.mark.reliability(13, counts="resumed")
def test_interrupted_and_continued_is_identical(checkpoint, tmp_path, monkeypatch, capsys):
    run(monkeypatch, checkpoint, tmp_path / "whole")
    written = SampleFolder.write

    def killed(self, part, images, costs):
        if part.start == 20:
            raise KeyboardInterrupt
        written(self, part, images, costs)

    monkeypatch.setattr(SampleFolder, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, checkpoint, tmp_path / "cut")
    assert len(list((tmp_path / "cut/parts").glob("*.safetensors"))) == 2
    assert not (tmp_path / "cut/samples.npz").exists()

    made = []
    monkeypatch.setattr(
        SampleFolder, "write", lambda self, part, *rest: [made.append(part), written(self, part, *rest)]
    )
    run(monkeypatch, checkpoint, tmp_path / "cut")
    assert [part.start for part in made] == [20, 30], "finished parts were made again"
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")

    before = contents(tmp_path / "cut")
    run(monkeypatch, checkpoint, tmp_path / "cut")
    assert len(made) == 2
    assert "nothing to do" in capsys.readouterr().out
    assert contents(tmp_path / "cut") == before


def test_another_average_is_another_setting(cache, tmp_path, monkeypatch, capsys):
    averaging = "[{class_path: eqvae.training.averaging.ExponentialMovingAverage, init_args: {decay: [0.9, 0.0]}}]"
    trained = stage_two(tmp_path / "run", cache, {"trainer.callbacks": averaging})
    trained.trainer.fit(trained.model, trained.datamodule)
    trained.trainer.save_checkpoint(tmp_path / "end.ckpt")
    run(monkeypatch, tmp_path / "end.ckpt", tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path / "end.ckpt", tmp_path / "out", "--ema-decay", "0.0")
    assert "ema_decay" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("change", [("--seed", "1"), ("--guidance-scale", "1.5"), ("--num-images", "35")])
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


def test_batch_size_and_threads_change_no_byte(checkpoint, tmp_path, monkeypatch):
    run(monkeypatch, checkpoint, tmp_path / "3")
    for batch_size, num_threads in ((1, 1), (20, 1), (34, 2)):
        torch.set_num_threads(num_threads)
        run(monkeypatch, checkpoint, tmp_path / str(batch_size), "--batch-size", str(batch_size))
        torch.set_num_threads(1)
        assert contents(tmp_path / str(batch_size)) == contents(tmp_path / "3")


def sample_as(rank: int, command: list[str]) -> None:
    """What `sample.py` does as one of two processes."""
    torch.set_num_threads(1)
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank)}
    sys.argv = command
    sample.main()


@pytest.mark.reliability(13, counts="in 2 processes")
def test_two_processes_share_the_parts(checkpoint, tmp_path, monkeypatch):
    run(monkeypatch, checkpoint, tmp_path / "one")
    command = words(checkpoint, tmp_path / "two")
    both = [FORK.Process(target=sample_as, args=(rank, command)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def tiny_folder(path: Path, num_images: int = 5, part_size: int = 2) -> SampleFolder:
    return SampleFolder(path, {"num_images": num_images}, part_size)


def make_tiny(part: range) -> tuple[torch.Tensor, dict[str, float]]:
    images = torch.tensor(part, dtype=torch.uint8)[:, None, None, None].expand(len(part), 3, 4, 4)
    return images, {"function_evaluations": 2.0, "network_passes": 2.0, "seconds": 1.0}


def test_a_process_makes_its_own_parts_first_and_then_what_nobody_claimed(tmp_path):
    folder, made = tiny_folder(tmp_path), []

    def make(part):
        made.append(part.start)
        return make_tiny(part)

    with folder.claim(range(2, 4)):
        fill(folder, make, rank=1, world_size=2)
    assert made == [0, 4], "the claimed part is another's"
    fill(folder, make, rank=0, world_size=2)
    assert made == [0, 4, 2]
    folder.assemble(npz=False, png=False)
    assert folder.results["images_per_second"] == 5 / 3


def test_a_late_process_adds_nothing_to_a_finished_folder(tmp_path):
    late, first = tiny_folder(tmp_path), tiny_folder(tmp_path)
    fill(first, make_tiny)
    first.assemble(npz=False, png=False)
    fill(late, lambda part: pytest.fail("made a part again"), rank=1, world_size=2)
    assert not list((tmp_path / "parts").glob("*.safetensors"))


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "unhashed"])
def test_a_damaged_part_is_named_and_made_again(tmp_path, capsys, damage):
    fill(tiny_folder(tmp_path), make_tiny)
    part = tiny_folder(tmp_path).path(range(2, 4))
    content = bytearray(part.read_bytes())
    content[-5] ^= 1
    changed = {"flipped": bytes(content), "cut": bytes(content[:-5]), "empty": b""}
    part.write_bytes(changed[damage] if damage in changed else save({"images": torch.zeros(2, 3, 4, 4)}))
    again = tiny_folder(tmp_path)
    assert again.missing() == [range(2, 4)]
    assert str(part) in capsys.readouterr().out
    fill(again, make_tiny)
    again.assemble(npz=True, png=False)
    with np.load(tmp_path / "samples.npz") as arrays:
        assert arrays["arr_0"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_two_jobs_in_one_folder(checkpoint, tmp_path, monkeypatch, capsys):
    with Lock(tmp_path / "out/.lock", "it"), pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "out")
    error = capsys.readouterr().err
    assert f"sample folder {tmp_path}/out is in use by process {os.getpid()} on" in error
    assert error.count("\n") == 1
    run(monkeypatch, checkpoint, tmp_path / "out")


def test_a_finished_folder_still_writes_other_files(checkpoint, tmp_path, monkeypatch, capsys):
    run(monkeypatch, checkpoint, tmp_path / "out")
    before = contents(tmp_path / "out")
    for lost in ("samples.npz", "000003.png", "grid.png"):
        (tmp_path / "out" / lost).unlink()
        run(monkeypatch, checkpoint, tmp_path / "out")
        assert contents(tmp_path / "out") == before
        assert "written" in capsys.readouterr().out
    array = bytearray(before["samples.npz"])
    array[len(array) // 2] ^= 1
    (tmp_path / "out/samples.npz").write_bytes(array)
    run(monkeypatch, checkpoint, tmp_path / "out")
    assert contents(tmp_path / "out") == before, "a damaged array stayed"


@pytest.mark.parametrize(("first", "second"), [("--npz", "--png"), ("--png", "--npz")])
def test_a_folder_that_was_finished_with_one_kind_of_file_gives_the_other(
    checkpoint, tmp_path, monkeypatch, capsys, first, second
):
    """From its images, without sampling again; and either of them alone stays enough."""
    run(monkeypatch, checkpoint, tmp_path / "both")
    only = {name: [word for word in words(checkpoint, tmp_path / "out") if word != name] for name in (first, second)}
    monkeypatch.setattr(sys, "argv", only[second])
    sample.main()
    assert contents(tmp_path / "out") != contents(tmp_path / "both")
    monkeypatch.setattr("twostage.commands.sample.make_images", lambda *_: pytest.fail("images were sampled again"))
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", only[first])
        sample.main()
        assert contents(tmp_path / "out") == contents(tmp_path / "both")
    written = "PNGs" if second == "--png" else "samples.npz"
    assert [line for line in capsys.readouterr().out.splitlines() if " is finished: " in line][-2:] == [
        f"{tmp_path / 'out'} is finished: {written} written from its images",
        f"{tmp_path / 'out'} is finished: nothing to do",
    ]


def test_images_that_are_gone_are_sampled_again(checkpoint, tmp_path, monkeypatch, capsys):
    run(monkeypatch, checkpoint, tmp_path / "out")
    before = contents(tmp_path / "out")
    for lost in ("samples.npz", "000003.png"):
        (tmp_path / "out" / lost).unlink()
    run(monkeypatch, checkpoint, tmp_path / "out")
    assert "sampling them again" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before


POSITIVE = ["guidance-scale", "timestep-shift", "diffusion-norm", "last-step-size", "gumbel-temperature"]


@pytest.mark.parametrize("option", [*POSITIVE, "inverse-temperature", "guidance-interval"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_numbers_out_of_range_are_refused_by_name(checkpoint, tmp_path, monkeypatch, capsys, option, value):
    values = [value, "1"] if option == "guidance-interval" else [value]
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "out", f"--{option}", *values)
    error = capsys.readouterr().err
    assert option.replace("-", "_") in error
    assert value in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_interval_that_ends_before_it_begins_is_refused(checkpoint, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "out", "--guidance-interval", "0.6", "0.4")
    assert "guidance_interval's high must be at least 0.6" in capsys.readouterr().err


def test_a_folder_with_another_record_is_refused(tmp_path):
    tiny_folder(tmp_path)
    whole = (tmp_path / "samples.json").read_text()
    for content in ("[]", "", whole.replace("false", "true"), '{"finished": false}', "[" * 100_000):
        (tmp_path / "samples.json").write_text(content)
        with pytest.raises(ValueError, match=f"{tmp_path}/samples.json is damaged.*sample again"):
            tiny_folder(tmp_path)


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
    images = {}
    for name, option in options.items():
        run(monkeypatch, checkpoint, tmp_path / name, "--sampler", "euler_maruyama", *option)
        images[name] = (tmp_path / name / "samples.npz").read_bytes()
    assert len(set(images.values())) == 3
    about = json.loads((tmp_path / "form/samples.json").read_text())
    expected = {"diffusion": "linear", "diffusion_norm": 1.0, "last_step": "none", "last_step_size": 0.04}
    assert about["options"] == expected
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "heun", "--sampler", "heun", "--diffusion-norm", "2")
    assert "sampler 'heun' takes no diffusion_norm" in capsys.readouterr().err


def test_timestep_shift_changes_the_images_and_is_refused_where_it_does_nothing(
    checkpoint, tmp_path, monkeypatch, capsys
):
    for shift in ("1", "0.3"):
        run(monkeypatch, checkpoint, tmp_path / shift, "--sampler", "euler", "--timestep-shift", shift)
    assert contents(tmp_path / "1")["samples.npz"] != contents(tmp_path / "0.3")["samples.npz"]
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "no", "--sampler", "euler_maruyama", "--timestep-shift", "0.3")
    assert "takes no timestep_shift: it takes diffusion" in capsys.readouterr().err


def test_the_network_samples_in_the_precision_asked_for(checkpoint, tmp_path, monkeypatch):
    """Images differ by the rounding of bfloat16 and no more; auto takes what is measured to be faster."""
    kinds = []
    watch_layers(monkeypatch, kinds)
    found = {}
    for name in ("float32", "bfloat16", "auto"):
        monkeypatch.setattr("twostage.commands.sample.choose_precision", lambda device: ("bfloat16", "bfloat16 is it"))
        run(monkeypatch, checkpoint, tmp_path / name, "--precision", name)
        found[name] = np.load(tmp_path / name / "samples.npz")["arr_0"].astype(float)
        record = json.loads((tmp_path / name / "samples.json").read_text())
        assert record.get("precision", "float32") == ("float32" if name == "float32" else "bfloat16")
        assert set(kinds) == {torch.float32 if name == "float32" else torch.bfloat16}
        kinds.clear()
    assert np.array_equal(found["bfloat16"], found["auto"])
    assert 0 < np.abs(found["bfloat16"] - found["float32"]).mean() < 4
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, tmp_path / "float32", "--precision", "bfloat16")  # a folder has one


def watch_layers(monkeypatch, kinds: list) -> None:
    """Notes in which precision the blocks of the network multiply."""
    forward = Mlp.forward

    def watched(self, x):
        result = forward(self, x)
        kinds.append(result.dtype)
        return result

    monkeypatch.setattr(Mlp, "forward", watched)


def test_a_compiled_network_samples_the_same(checkpoint, tmp_path, monkeypatch):
    graphs = CompileCounter()
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=graphs))
    for name, more in (("plain", []), ("compiled", ["--compile"])):
        run(monkeypatch, checkpoint, tmp_path / name, "--num-images", "10", *more)
    assert graphs.frame_count > 0
    assert contents(tmp_path / "plain") == contents(tmp_path / "compiled")

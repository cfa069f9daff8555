"""Labels of samples: how many of each class, where given ones come from, and what they leave as it is."""

import json
import sys

import numpy as np
import pytest
import torch

from dit.generation import generate_images
from dit.labels import choose_labels, require_choice, score_order
from dit.sample_files import SampleFolder
from dit.samplers import SamplingSettings
from eqvae.latents import open_cache
from eqvae.selection import evenly_spaced
from tests.dit.tiny import save_generator, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from twostage import load_sweep
from twostage.cli import sample

GIVEN = [4, 4, 4, 0, 1, 1, 2, 4, 4, 0] * 3


def counts(labels):
    return torch.bincount(labels, minlength=5).tolist()


def test_numbers_of_images_of_each_class():
    assert counts(choose_labels(50, 5, "balanced")) == [10] * 5
    assert counts(choose_labels(53, 5, "balanced")) == [11, 11, 11, 10, 10]
    assert counts(choose_labels(50, 5, "3,1,3")) == [0, 17, 0, 33, 0]
    drawn = choose_labels(5000, 5, "random", seed=3)
    assert all(abs(count - 1000) < 5 * 28 for count in counts(drawn))  # binomial, standard deviation 28
    assert torch.equal(drawn[:7], choose_labels(7, 5, "random", seed=3))
    assert not torch.equal(drawn, choose_labels(5000, 5, "random", seed=4))


def test_samples_are_shuffled_for_their_score_where_given_labels_are_sorted():
    assert score_order(torch.tensor([0, 0, 1, 3, 3])) == "shuffled"
    assert score_order(torch.tensor([0, 1, 0, 1])) == "given"


@pytest.mark.parametrize("name", ["given.txt", "given.npy", "given.npz", "adm.npz"])
def test_labels_of_a_file(name, tmp_path):
    path = tmp_path / name
    if name.endswith(".txt"):
        path.write_text("\n".join(map(str, GIVEN)))
    elif name.endswith(".npy"):
        np.save(path, np.array(GIVEN, dtype=np.uint8))
    else:
        np.savez(path, **{"arr_1" if name == "adm.npz" else "labels": np.array(GIVEN)})
    assert choose_labels(len(GIVEN), 5, str(path)).tolist() == GIVEN
    assert choose_labels(6, 5, str(path)).tolist() == torch.tensor(GIVEN)[evenly_spaced(6, 30)].tolist()
    with pytest.raises(ValueError, match=f"{name}: 30 of them for 31 images"):
        choose_labels(31, 5, str(path))
    with pytest.raises(ValueError, match=f"{name}: this generator knows 0 to 3"):
        choose_labels(6, 4, str(path))


def test_labels_of_a_latent_cache_are_those_of_its_images(cache):
    stored = open_cache(cache)
    expected = stored.get_batch(torch.arange(len(stored)), None)["label"]
    assert torch.equal(choose_labels(len(stored), stored.num_classes, str(cache)), expected)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"1 2 x", "the file cannot be read"),
        (b"", r"whole numbers \[N\] are wanted, the file holds int64 \(0,\)"),
        (np.array([0.5, 1.0]), r"whole numbers \[N\] are wanted, the file holds float64 \(2,\)"),
        (np.zeros((2, 2), int), r"the file holds int64 \(2, 2\)"),
        (np.array([{}]), "the file cannot be read"),
    ],
)
def test_files_that_hold_no_labels_are_refused(content, text, tmp_path):
    path = tmp_path / ("given.txt" if isinstance(content, bytes) else "given.npy")
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content, allow_pickle=True)
    with pytest.raises(ValueError, match=text) as error:
        choose_labels(2, 5, str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_names_no_labels_is_refused():
    with pytest.raises(ValueError, match=r"labels 'even': use balanced, random, numbers .*, or a path"):
        choose_labels(2, 5, "even")
    with pytest.raises(ValueError, match=r"labels none\.txt: nothing is there"):
        choose_labels(2, 5, "none.txt")
    with pytest.raises(ValueError, match="labels 1,5: this generator knows 0 to 4"):
        choose_labels(2, 5, "1,5")
    for how in ("balanced", "random", "0,3"):
        require_choice(how)
    for how, text in (("even", "use balanced"), ("a/b", "nothing is there")):
        with pytest.raises(ValueError, match=r"evaluation\.labels.*" + text):
            load_sweep("configs/sweeps/tiny-shapes.yaml", [f"evaluation.labels={how}"])
    assert load_sweep("configs/sweeps/tiny-shapes.yaml", ["evaluation.labels=data"]).evaluation.labels == "data"


def test_noise_follows_the_image_and_not_its_label():
    """Where two choices give an image the same label, it is the same image."""
    autoencoder = tiny_autoencoder()
    generator, settings = tiny_generator(autoencoder=autoencoder), SamplingSettings(num_inference_steps=2)
    choices = [choose_labels(12, 5, how) for how in ("balanced", "2,2,2,1")]
    images = [torch.cat(list(generate_images(generator, autoencoder, each, settings))) for each in choices]
    alike = choices[0] == choices[1]
    assert 0 < alike.sum() < 12
    assert torch.equal(images[0][alike], images[1][alike])
    assert not (images[0][~alike] == images[1][~alike]).flatten(1).all(1).any()


def test_given_labels_survive_interruption_and_sharing(tmp_path, monkeypatch, capsys):
    """The first process is killed, another makes most parts, the first comes back: the images are those of one run."""
    tiny_autoencoder().save_pretrained(tmp_path / "autoencoder")
    checkpoint = save_generator(tiny_generator(), str(tmp_path / "autoencoder"), tmp_path / "end.ckpt")
    (tmp_path / "given.txt").write_text(" ".join(map(str, GIVEN)))

    def run(output, rank=0, world_size=1):
        words = ["--num-images", "30", "--batch-size", "3", "--num-inference-steps", "2", "--device", "cpu", "--npz"]
        given = ["--checkpoint", checkpoint, "--labels", tmp_path / "given.txt", "--output", tmp_path / output]
        monkeypatch.setattr(sys, "argv", ["sample.py", *map(str, given), *words])
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world_size))
        sample.main()

    def killed(*arguments):
        raise KeyboardInterrupt

    run("whole")
    with monkeypatch.context() as patch:
        patch.setattr(SampleFolder, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run("shared")
    run("shared", rank=1, world_size=2)
    run("shared", rank=0, world_size=2)
    whole, shared = ((tmp_path / name / "samples.npz").read_bytes() for name in ("whole", "shared"))
    assert shared == whole
    (tmp_path / "given.txt").write_text(" ".join(map(str, reversed(GIVEN))))
    with pytest.raises(SystemExit):
        run("whole")
    assert "labels_sha256" in capsys.readouterr().err
    assert json.loads((tmp_path / "whole/samples.json").read_text())["labels"] == str(tmp_path / "given.txt")

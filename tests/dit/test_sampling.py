"""`dit.sample` gives what `sample.py` writes."""

import sys

import numpy as np
import pytest
import torch

import dit
from tests.dit.tiny import save_generator, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from twostage.cli import sample as command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    tiny_autoencoder().save_pretrained(folder / "autoencoder")
    return save_generator(tiny_generator(), str(folder / "autoencoder"), folder / "end.ckpt")


def test_the_images_are_those_of_the_command(checkpoint, tmp_path, monkeypatch):
    words = "--num-images 12 --num-inference-steps 2 --sampler euler --guidance-scale 2 --labels random --seed 3 --npz"
    output = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "out"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["sample.py", *output, *words.split()])
    command.main()
    settings = {"num_inference_steps": 2, "sampler": "euler", "guidance_scale": 2, "seed": 3}
    images = dit.sample(checkpoint, 12, "random", device="cpu", **settings)
    assert images.dtype == torch.uint8
    with np.load(tmp_path / "out/samples.npz") as arrays:
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), arrays["arr_0"])


def test_classes_may_be_listed_and_a_sampler_has_its_own_settings(checkpoint):
    listed = dit.sample(checkpoint, 4, labels=[4, 1], num_inference_steps=1, device="cpu")
    alone = dit.sample(checkpoint, 2, labels="4,1", num_inference_steps=1, device="cpu")
    assert torch.equal(listed[:2], alone)
    default, shifted = (
        dit.sample(checkpoint, 1, num_inference_steps=2, sampler="euler", device="cpu", **own)
        for own in ({}, {"timestep_shift": 0.3})
    )
    assert not torch.equal(default, shifted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"guidance_scal": 2}, "option guidance_scal is taken by no sampler"),
        ({"num_images": 0}, "num_images and batch_size must be at least 1"),
        ({"labels": [7]}, "labels 7: this generator knows 0 to 4"),
        ({"autoencoder": "shapes-f4c8"}, "the generator"),
    ],
)
def test_what_cannot_be_sampled_is_refused(checkpoint, given, message):
    with pytest.raises(ValueError, match=message):
        dit.sample(checkpoint, **given)


def test_a_checkpoint_that_names_no_autoencoder_needs_one(tmp_path):
    path = save_generator(tiny_generator(), None, tmp_path / "end.ckpt")
    with pytest.raises(ValueError, match=r"names no autoencoder: give one \(autoencoder, --autoencoder\)"):
        dit.sample(path)
    tiny_autoencoder().save_pretrained(tmp_path / "autoencoder")
    images = dit.sample(path, 1, autoencoder=tmp_path / "autoencoder", num_inference_steps=1, device="cpu")
    assert images.shape == (1, 3, 16, 16)

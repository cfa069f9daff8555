"""Autoencoders and images by words: what they mean, and what is refused in one line."""

import re

import pytest
from torchvision.io import write_png

from eqvae.autoencoders import load_autoencoder
from eqvae.data import read_images
from tests.tiny import TINY_AUTOENCODER
from twostage.compare.contestants import Contestant, parse_contestants, read_field
from twostage.compare.images import find_images

WORDS = ["shapes-f4c8", "eq:shapes-f4c8", "ordinary:./own/vae.ckpt", "owner/vae", "runs/x/autoencoder"]


def test_words_name_ready_and_fine_tuned_autoencoders():
    found = parse_contestants(WORDS)
    assert found[:3] == [
        Contestant("shapes-f4c8", "ready", "shapes-f4c8", "shapes-f4c8"),
        Contestant("eq:shapes-f4c8", "eq", "shapes-f4c8", "eq-shapes-f4c8"),
        Contestant("ordinary:./own/vae.ckpt", "ordinary", "./own/vae.ckpt", "ordinary-vae.ckpt"),
    ]
    assert [each.name for each in found[3:]] == ["vae", "x"]
    assert [each.name for each in parse_contestants(["a/vae", "b/vae", "c/vae"])] == ["vae", "vae-2", "vae-3"]
    assert parse_contestants(["start", "../.."])[0].name != "start", "it is the common start's name"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "there is nothing to compare a with: give two autoencoders or more"),
        (["a", "b", "a"], "a is given twice: .* same numbers; give it once"),
        (["eq:a", "eq:a"], "eq:a is given twice"),
        (["a", "eq:"], "'eq:' names no autoencoder: write eq:A"),
        (["a", ""], "'' names no autoencoder"),
    ],
)
def test_words_that_compare_nothing_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        parse_contestants(words)


@pytest.fixture(scope="module")
def other_shape(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "small"
    load_autoencoder(TINY_AUTOENCODER).save_pretrained(folder)
    return str(folder)


def test_what_all_share_is_read_from_them():
    field = read_field(parse_contestants(["shapes-f4c8", "eq:shapes-f4c8", "scenes-f4c8"]), 32)
    assert field.latent_shape == (8, 8, 8)
    assert [each.word for each in field.trained] == ["eq:shapes-f4c8"]


def test_latents_of_other_shapes_are_refused_with_both(other_shape):
    with pytest.raises(ValueError, match=r"shapes-f4c8 has latents of 8 x 8 x 8, .*small of 4 x 16 x 16"):
        read_field(parse_contestants(["shapes-f4c8", other_shape]), 32)


@pytest.mark.parametrize("prefix", ["", "eq:"])
def test_the_same_autoencoder_elsewhere_is_refused(prefix, tmp_path):
    """Same seeds, same numbers: hours of work would end in "the seeds gave identical numbers"."""
    load_autoencoder("shapes-f4c8").save_pretrained(tmp_path / "copy")
    words = [f"{prefix}shapes-f4c8", f"{prefix}{tmp_path / 'copy'}"]
    with pytest.raises(ValueError, match="are the same autoencoder: with the same seeds both would give the same"):
        read_field(parse_contestants(words), 32)


def test_fine_tuned_ones_have_one_start():
    with pytest.raises(ValueError, match="eq:shapes-f4c8 and ordinary:scenes-f4c8 are fine-tuned from different"):
        read_field(parse_contestants(["shapes-f4c8", "eq:shapes-f4c8", "ordinary:scenes-f4c8"]), 32)


@pytest.mark.parametrize(
    ("words", "image_size", "message"),
    [
        (["shapes-f4c8", "nowhere"], 32, "no autoencoder at 'nowhere'"),
        (["shapes-f4c8", "scenes-f4c8"], 30, "--image-size 30 is no multiple of 4"),
    ],
)
def test_what_cannot_be_loaded_or_does_not_fit_is_refused(words, image_size, message):
    with pytest.raises(ValueError, match=message):
        read_field(parse_contestants(words), image_size)


@pytest.mark.parametrize(("data", "seed"), [("shapes:300", 1), ("scenes:300:4", 5)])
def test_procedural_images_are_held_out_by_another_seed(data, seed):
    images = find_images(data, None, 32)
    assert images.train["init_args"] == {"num_images": 300, "image_size": 32, "seed": seed - 1}
    assert images.held_out["init_args"]["seed"] == seed
    assert images.held_out["class_path"] == images.train["class_path"]
    assert (images.num_train, images.num_classes) == (300, 10)


@pytest.mark.parametrize(
    ("data", "held_out", "message"),
    [
        ("shapes", None, "--data: nothing at shapes: give shapes:COUNT"),
        ("absent", None, "--data: nothing at absent: give .*, a folder, a parquet or tar file"),
        ("FOLDER", None, "--data FOLDER needs --held-out, images of the same kind"),
        ("shapes:300", "absent.parquet", r"--held-out: nothing at absent\.parquet"),
        ("shapes:300", "shapes:2000:0", "--held-out shapes:2000:0 holds the images of --data"),
        ("shapes:20", None, "--data shapes:20 has 20 images: give at least 100"),
        ("shapes:300", "shapes:9:1", "--held-out shapes:9:1 has 9 images: give at least 100"),
        ("shapes:many", None, "--data shapes:many: .* written shapes:COUNT or"),
        ("EMPTY", None, "--data EMPTY: "),
    ],
)
def test_images_that_are_none_are_refused_by_option(data, held_out, message, tmp_path):
    (tmp_path / "full").mkdir()
    for number, image in enumerate(read_images("shapes:100", 32)):
        write_png(image, str(tmp_path / "full" / f"{number}.png"))
    (tmp_path / "empty").mkdir()
    for word, folder in (("FOLDER", tmp_path / "full"), ("EMPTY", tmp_path / "empty")):
        data, message = data.replace(word, str(folder)), message.replace(word, re.escape(str(folder)))
    with pytest.raises(ValueError, match=message) as error:
        find_images(data, held_out, 32)
    assert "init_args" not in str(error.value) or "EMPTY" in data

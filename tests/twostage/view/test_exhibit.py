"""What the page is given to show, and samples from one noise."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from dit.generation import generate_images
from dit.samplers import SamplingSettings
from eqvae.data import ShapesSource, to_float
from eqvae.evaluation.image_grids import image_grid, save_png
from tests.dit.tiny import save_generator, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from twostage.view.exhibit import NUM_SAMPLES, Exhibit
from twostage.view.page import _telling
from twostage.view.sampling import Decoding, load_generators, sample_all
from twostage.view.transforming import SharedTransform, transform_image

SIDE = 16


@pytest.fixture(scope="module")
def exhibit() -> Exhibit:
    autoencoders = {"a": tiny_autoencoder(seed=0), "b": tiny_autoencoder(seed=1)}
    generators = {"g": Decoding(tiny_generator(autoencoder=autoencoders["a"]), autoencoders["a"])}
    return Exhibit(autoencoders, generators, SIDE)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    save_png(ShapesSource(1, SIDE)[0][0], path)
    return path


def test_pictures_and_table_are_those_of_the_transform(exhibit, image):
    pictures, table = exhibit.transformed(str(image), right=4.2, down=-3.9, scale=0.52, quarter_turns=1)
    shown, results = transform_image(
        exhibit.autoencoders, to_float(ShapesSource(1, SIDE)[0][0]), SharedTransform((-4, 4), Fraction(1, 2), 1)
    )
    assert len(pictures) == 1 + 2 * 2
    numbers = [[float(word) for word in row.split("|")[2:4]] for row in table.splitlines()[2:]]
    assert numbers == [[round(each.decoded_error, 4), round(each.latent_error, 4)] for each in results.values()]
    whole = np.asarray(pictures[0])
    assert whole.shape == (256, 256, 3)
    assert (whole[:64] == 255).all(), "half the side, in the middle of white"
    assert (whole[64:192:16, 64:192:16] == shown.permute(1, 2, 0).numpy()).all()


def test_an_enlarged_image_is_not_cut(exhibit, image):
    pictures, _ = exhibit.transformed(str(image), 0, 0, 2.0, 0)
    assert pictures[0].shape == (256, 256, 3)
    assert pictures[3].shape == (256, 256 + 16 + 256, 3), "both latents, as large as the image, and a gap"
    assert len(np.unique(pictures[3][:, :256].reshape(-1, 3), axis=0)) > 16


def test_a_dropped_image_is_cropped_as_in_training(exhibit, tmp_path):
    photo = Image.new("RGB", (80, 48), "red")
    photo.paste("blue", (16, 0, 64, 48))
    photo.save(tmp_path / "photo.png")
    pictures, _ = exhibit.transformed(str(tmp_path / "photo.png"), 0, 0, 1, 0)
    assert (pictures[0][8:-8, 24:-24] == [0, 0, 255]).all()
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png is not a readable image"):
        exhibit.transformed(str(tmp_path / "text.png"), 0, 0, 1, 0)


def test_samples_are_those_of_sampling_and_follow_the_seed(exhibit):
    """Two generators of the same weights make the same images: they start from the same noise."""
    one = exhibit.generators["g"]
    settings = SamplingSettings(num_inference_steps=2, seed=3)
    found = sample_all({"g": one, "again": one}, NUM_SAMPLES, "1,2", settings)
    labels = torch.tensor([1, 2] * (NUM_SAMPLES // 2))
    expected = torch.cat(list(generate_images(one.generator, one.autoencoder, labels, settings)))
    assert torch.equal(found["g"], expected)
    assert torch.equal(found["again"], expected)
    (grid,) = exhibit.samples(3.0, 2.0, 1.0, "1,2")
    assert (grid == image_grid(expected, 4).permute(1, 2, 0).numpy()).all()
    assert (exhibit.samples(4.0, 2.0, 1.0, "1,2")[0] != grid).any()
    with pytest.raises(ValueError, match="this generator knows 0 to 4"):
        exhibit.samples(0, 1, 1, "7")


class Gradio:
    class Error(Exception):
        def __init__(self, message: str, print_exception: bool):
            super().__init__(message)


@pytest.mark.parametrize(
    ("asked", "values", "message"),
    [
        ("samples", (None, 5, 1.0, "balanced"), "seed of the noise: the field is empty, give a number"),
        ("samples", (0, None, 1.0, "balanced"), "sampler's steps: the field is empty, give a number"),
        ("samples", (0, 5, None, "balanced"), "guidance scale: the field is empty, give a number"),
        ("transformed", (0, None, 1.0, 0), "shift down: the field is empty, give a number"),
        ("transformed", (0, 0, None, 0), "scale: the field is empty, give a number"),
    ],
)
def test_a_field_that_was_cleared_is_told_in_one_line(asked, values, message, exhibit, image):
    told = _telling(Gradio, getattr(exhibit, asked))
    with pytest.raises(Gradio.Error, match=message):
        told(*([str(image)] if asked == "transformed" else []), *values)


def test_a_generator_is_decoded_by_the_autoencoder_that_made_its_latents(tmp_path):
    """One that is there already is not loaded again; without it the checkpoint says where it is."""
    mine, other = tiny_autoencoder(seed=0), tiny_autoencoder(seed=1)
    mine.save_pretrained(tmp_path / "autoencoder")
    generator = tiny_generator(autoencoder=mine)
    named = str(save_generator(generator, str(tmp_path / "autoencoder"), tmp_path / "named.ckpt"))
    nameless = str(save_generator(generator, None, tmp_path / "nameless.ckpt"))
    found = load_generators([named, nameless], {"other": other, "mine": mine}, "cpu")
    assert [each.autoencoder is mine for each in found.values()] == [True, True]
    loaded = load_generators([named], {"other": other}, "cpu")[named].autoencoder
    assert loaded.fingerprint() == mine.fingerprint()
    with pytest.raises(ValueError, match=r"nameless\.ckpt names no autoencoder, and none of those given made"):
        load_generators([nameless], {"other": other}, "cpu")

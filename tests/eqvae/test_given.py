"""Images of any kind that a person has become the same float images."""

import numpy as np
import pytest
import torch
from PIL import Image

from eqvae import images_to_pil, to_images, to_uint8
from eqvae.data import InMemorySource, open_source
from eqvae.data.given import GivenSource, describe_given, to_source

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


def test_every_kind_of_image_gives_the_same(tmp_path):
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "a.png")
    expected = (TENSOR.float() / 127.5 - 1)[None]
    kinds = [image, PIXELS, PIXELS[None], TENSOR, TENSOR[None], expected, expected.double(), tmp_path / "a.png"]
    for given in (*kinds, str(tmp_path / "a.png"), [image]):
        found = to_images(given)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected), type(given)
    together = to_images([image, PIXELS, TENSOR[None], tmp_path / "a.png"])
    assert torch.equal(together, expected.expand(4, -1, -1, -1))


def test_colours_and_orientation_are_those_of_the_one_door(tmp_path):
    clear = np.dstack([PIXELS, np.zeros((6, 8), np.uint8)])
    assert (to_images(clear) == 1).all(), "transparency lies on white"
    assert (to_images(Image.fromarray(clear)) == 1).all()
    assert torch.equal(to_images(PIXELS[..., 0])[0, 2], TENSOR[0] / 127.5 - 1), "grey has three equal channels"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as lazy:
        assert torch.equal(to_images(lazy)[0], to_images(PIXELS)[0].rot90(-1, (1, 2)))


def test_a_size_crops_at_the_centre_and_leaves_what_fits():
    assert torch.equal(to_images(PIXELS, size=6), to_images(PIXELS)[..., 1:7])
    assert to_images([PIXELS, np.zeros((9, 5, 3), np.uint8)], size=4).shape == (2, 3, 4, 4)
    floats = torch.rand(1, 3, 6, 6) - 0.5
    assert torch.equal(to_images(floats, size=6), floats), "not rounded to levels"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no image was given"),
        (PIXELS / 255, r"array float64 \[6, 8, 3\] holds no images: give uint8"),
        (PIXELS[None, None], "holds no images"),
        (torch.zeros(6, 8, 3), r"tensor \[6, 8, 3\] holds no images: give \[3, H, W\]"),
        (TENSOR.float(), "give uint8, or floats in"),
        (TENSOR.long(), "give uint8, or floats in"),
        (torch.full((3, 4, 4), float("nan")), "give uint8, or floats in"),
        ([PIXELS, PIXELS[:5]], "different sizes, 6 x 8 and 5 x 8 pixels: give size"),
        ([PIXELS, 3], "int is no image"),
        ("absent.png", "absent.png is not a readable image"),
    ],
)
def test_what_is_no_image_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        to_images(given)


def test_images_become_a_source_that_is_known_by_its_pixels():
    source = to_source([PIXELS, PIXELS[::-1].copy()], 32)
    assert isinstance(source, GivenSource)
    assert torch.equal(source[0][0], TENSOR)
    assert len(source) == 2
    assert source.fingerprint() == to_source([PIXELS, PIXELS[::-1].copy()], 8).fingerprint()
    assert source.fingerprint() != to_source([PIXELS, PIXELS], 32).fingerprint()
    kept = InMemorySource(open_source("shapes:3", 16))
    assert to_source(kept, 32) is kept
    assert to_source("shapes:3", 16)[0][0].shape == (3, 16, 16)
    assert [describe_given(each) for each in ("shapes:3", kept, PIXELS)] == [
        "shapes:3",
        "3 images of InMemorySource",
        "images in memory",
    ]


def test_a_grid_shows_decoded_images_that_leave_their_range():
    bright = torch.full((3, 3, 64, 64), 1.7)
    grid = np.asarray(images_to_pil(bright, columns=2))
    assert grid.shape == (2 * 66 + 2, 2 * 66 + 2, 3)
    assert (grid[2:66, 2:66] == 255).all()
    assert images_to_pil(PIXELS).size == (64, 48), "small ones are enlarged"
    assert torch.equal(to_uint8(to_images(PIXELS))[0], TENSOR)

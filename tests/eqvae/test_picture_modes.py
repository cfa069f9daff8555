"""Files of every mode become the RGB picture that a person sees, within two levels."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from eqvae.data import open_image
from tests.eqvae.test_pictures import encoded

RED = (200, 40, 20)
ORIENTED = {  # EXIF orientation -> what was done to the upright picture, to be undone
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def palette_with_transparency() -> bytes:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, *RED])
    image.putpixel((0, 0), 1)
    return encoded(image, transparency=0)


def animated() -> bytes:
    frames = [Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), (0, 0, 255))]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def float_tiff(value: float) -> bytes:
    return encoded(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF")


def with_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return encoded(Image.new("RGB", (4, 4), RED), icc_profile=profile.tobytes())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), (255, 0, 0), id="cmyk"),
        pytest.param(encoded(Image.fromarray(np.full((4, 4), 32768, np.uint16))), (127.5,) * 3, id="16 bit"),
        pytest.param(encoded(Image.fromarray(np.full((4, 4), 65535, np.uint16)), "TIFF"), (255,) * 3, id="16 bit tiff"),
        pytest.param(encoded(Image.new("1", (4, 4), 1)), (255,) * 3, id="1 bit"),
        pytest.param(encoded(Image.new("L", (4, 4), 77)), (77,) * 3, id="grey"),
        pytest.param(encoded(Image.new("LA", (4, 4), (0, 127))), (128,) * 3, id="grey and alpha"),
        pytest.param(encoded(Image.new("RGBA", (4, 4), (*RED, 255))), RED, id="rgba"),
        pytest.param(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), (255,) * 3, id="transparent"),
        pytest.param(encoded(Image.new("RGB", (4, 4), RED).quantize(4)), RED, id="palette"),
        pytest.param(float_tiff(0.5), (127.5,) * 3, id="float"),
        pytest.param(float_tiff(200.0), (200,) * 3, id="float to 255"),
        pytest.param(animated(), RED, id="animated"),
        pytest.param(with_profile(), RED, id="profile"),
    ],
)
def test_mode(content, expected):
    mean = np.asarray(open_image(content), np.float64).mean((0, 1))
    assert mean == pytest.approx(expected, abs=2)


def test_palette_with_transparency():
    pixels = np.asarray(open_image(palette_with_transparency()))
    assert pixels[0, 0].tolist() == list(RED)
    assert pixels[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", ORIENTED)
def test_orientation(orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0], upright[0, -1], upright[-1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(upright).transpose(ORIENTED[orientation])
    assert (np.asarray(open_image(encoded(stored, exif=exif))) == upright).all()

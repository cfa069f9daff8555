"""Files of every mode become the RGB image that a person sees, within two levels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from eqvae.data import open_image
from tests.eqvae.test_images import encoded

RED, WHITE = (200, 40, 20), (255, 255, 255)
GREY, GREY_ALPHA, RGB, RGB_ALPHA = 0, 4, 2, 6  # colour types of PNG
ORIENTED = {  # EXIF orientation -> what was done to the upright image, to be undone
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def palette_with_transparency() -> bytes:
    """Red in the corner, the rest transparent."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, *RED])
    image.putpixel((0, 0), 1)
    return encoded(image, transparency=0)


def animated(kind: str = "PNG") -> bytes:
    frames = [Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), (0, 0, 255))]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def png(depth: int, colour_type: int, row: bytes, width: int, transparent: tuple[int, ...] | None = None) -> bytes:
    """A PNG of one row, byte for byte: Pillow does not write all of them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header)]
    if transparent is not None:
        parts.append(chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    return b"\x89PNG\r\n\x1a\n" + b"".join((*parts, chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")))


def float_tiff(value: float) -> bytes:
    return encoded(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF")


def whole_tiff(value: int) -> bytes:
    return encoded(Image.fromarray(np.full((4, 4), value, np.int32)), "TIFF")


def with_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return encoded(Image.new("RGB", (4, 4), RED), icc_profile=profile.tobytes())


@pytest.mark.reliability(20, counts="files")
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
        pytest.param(whole_tiff(200), (200,) * 3, id="32 bit to 255"),
        pytest.param(whole_tiff(32768), (127.5,) * 3, id="32 bit to 65535"),
        pytest.param(
            encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100), (255, 0, 0), id="cmyk jpeg"
        ),
        pytest.param(animated(), RED, id="animated"),
        pytest.param(animated("GIF"), RED, id="animated gif"),
        pytest.param(with_profile(), RED, id="profile"),
    ],
)
def test_mode(content, expected, reached):
    mean = np.asarray(open_image(content), np.float64).mean((0, 1))
    assert mean == pytest.approx(expected, abs=0.5 if 127.5 in expected else 2)
    reached.largest("levels off", np.abs(mean - expected).max())


def test_a_dark_map_of_16_bits_stays_dark_whatever_its_largest_value_is_called():
    """3200 is no depth of 32 bits: the map's 10 of 3200 is .8 of 255."""
    assert np.asarray(open_image(b"P5 2 1 3200\n" + struct.pack(">2H", 10, 10))).max() <= 1


def test_grey_of_16_bits_is_that_of_equal_colours():
    values = range(0, 65536, 101)
    grey = png(16, GREY, struct.pack(f">{len(values)}H", *values), len(values))
    colour = png(16, RGB, struct.pack(f">{3 * len(values)}H", *np.repeat(values, 3)), len(values))
    assert (np.asarray(open_image(grey)) == np.asarray(open_image(colour))).all()


def tiff(depth: int, photometric: int, content: bytes, width: int) -> bytes:
    """A grey TIFF of one row, byte for byte: Pillow writes no such depth and counts from black."""
    entries = {256: width, 257: 1, 258: depth, 259: 1, 262: photometric, 273: 122, 277: 1, 278: 1, 279: len(content)}
    tags = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in entries.items()
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4) + content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(tiff(12, 1, bytes([0, 8, 0, 255, 244, 0]), 4), [0, 128, 255, 64], id="12 bits"),
        pytest.param(tiff(16, 0, struct.pack("<3H", 0, 32768, 65535), 3), [255, 127, 0], id="16 bits, white is 0"),
        pytest.param(tiff(16, 1, struct.pack("<3H", 0, 32768, 65535), 3), [0, 128, 255], id="16 bits"),
        pytest.param(tiff(8, 0, bytes([0, 128, 255]), 3), [255, 127, 0], id="8 bits, white is 0"),
    ],
)
def test_scans_of_other_depths_and_from_white(content, expected):
    assert np.asarray(open_image(content))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("value", [-1, 70_000])
def test_whole_numbers_without_a_known_white_are_refused(value):
    with pytest.raises(ValueError, match=r"its whole values are neither in \[0, 255\] nor in \[0, 65535\]"):
        open_image(whole_tiff(value))


@pytest.mark.reliability(20, counts="files")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(palette_with_transparency(), [RED, WHITE], id="palette"),
        pytest.param(png(16, GREY, struct.pack(">2H", 1000, 32768), 2, (1000,)), [WHITE, (127,) * 3], id="16-bit grey"),
        pytest.param(
            png(16, GREY, struct.pack(">2H", 1000, 32768), 2, (32768,)), [(3,) * 3, WHITE], id="16-bit grey, another"
        ),
        pytest.param(png(16, GREY, struct.pack(">2H", 1000, 32768), 2), [(3,) * 3, (127,) * 3], id="16-bit grey, none"),
        pytest.param(
            png(16, GREY_ALPHA, struct.pack(">4H", 1000, 0, 32768, 65535), 2),
            [WHITE, (128,) * 3],
            id="16-bit grey, alpha",
        ),
        pytest.param(
            png(16, RGB, struct.pack(">6H", 1000, 2000, 3000, 51400, 10280, 5140), 2, (1000, 2000, 3000)),
            [WHITE, RED],
            id="16-bit colour",
        ),
        pytest.param(
            png(16, RGB_ALPHA, struct.pack(">8H", 1, 2, 3, 0, 51400, 10280, 5140, 65535), 2),
            [WHITE, RED],
            id="16-bit alpha",
        ),
        pytest.param(png(8, GREY, bytes([10, 200]), 2, (10,)), [WHITE, (200,) * 3], id="grey"),
        pytest.param(png(4, GREY, b"\x1f", 2, (1,)), [WHITE, WHITE], id="4-bit grey"),
        pytest.param(png(4, GREY, b"\x13", 2, (1,)), [WHITE, (51,) * 3], id="4-bit grey, another"),
        pytest.param(png(2, GREY, b"\x60", 2, (1,)), [WHITE, (170,) * 3], id="2-bit grey"),
        pytest.param(png(1, GREY, b"\x40", 2, (0,)), [WHITE, WHITE], id="1-bit"),
        pytest.param(png(1, GREY, b"\x40", 2, (1,)), [(0,) * 3, WHITE], id="1-bit, another"),
        pytest.param(png(8, RGB, bytes([1, 2, 3, *RED]), 2, (1, 2, 3)), [WHITE, RED], id="colour"),
    ],
)
def test_transparency_is_laid_on_white(content, expected, reached):
    pixels = np.asarray(open_image(content))[0, :2]
    np.testing.assert_allclose(pixels.astype(int), expected, atol=2)
    reached.largest("levels off", np.abs(pixels.astype(int) - expected).max())


@pytest.mark.reliability(20, counts="orientations")
@pytest.mark.parametrize("orientation", [1, *ORIENTED])
def test_orientation(orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0], upright[0, -1], upright[-1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(upright)
    stored = stored.transpose(ORIENTED[orientation]) if orientation in ORIENTED else stored
    assert (np.asarray(open_image(encoded(stored, exif=exif))) == upright).all()

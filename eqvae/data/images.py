"""The one door for images: open, orient, convert, crop, to [-1, 1] and back."""

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

UINT8_RULES = ("round", "truncate")
PREPROCESSING_VERSION = 2  # to be raised when the same file becomes another image
ADM_CROP_SHARES = (0.8, 1.0)  # of the short side that ADM's random crop keeps
EQ_VAE_CROP_SHARES = (0.5, 1.0)
PHOTOMETRIC = 262  # tag of a TIFF: 0 where white is 0
GREY_STEPS = {"L;2": 85, "L;4": 17}  # between the grey levels of a PNG of 2 and 4 bits, in levels of 8
MAXIMUM_PIXELS = 1 << 28  # of an image on its way to the crop: 0.8 GB


def open_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """An upright RGB image from a path or encoded bytes.

    Applies the EXIF orientation, scales 16-bit and float values instead of clipping them, lays transparency on white,
    and takes the first image of an animation. Colour profiles are not applied, as in the public pipelines.

    Args:
        name: what to call the image in an error; the path by default.

    Raises:
        ValueError: if it cannot be read or decoded to its end, naming it.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "image")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return to_rgb(image)
    except UnidentifiedImageError:
        raise unreadable(name, ValueError("its content is of no known format")) from None
    except Exception as error:  # a damaged file can raise anything
        raise unreadable(name, error) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of Pillow's, of any mode, as `open_image` gives it.

    Raises:
        ValueError: for one without pixels, or of floats in no known range; whatever Pillow raises on a damaged file.
    """
    stored = _Stored(_transparent_value(image), _depth(image), _is_white_zero(image))
    image.load()
    if 0 in image.size:
        raise ValueError("it has no pixels")
    return _to_rgb(ImageOps.exif_transpose(image), stored)


def unreadable(name: str, error: Exception) -> ValueError:
    """What is raised for a file that becomes no image."""
    return ValueError(f"{name} is not a readable image ({' '.join(str(error).split()) or type(error).__name__})")


@dataclass(frozen=True)
class _Stored:
    """What a file says of its values, which is lost when Pillow has decoded it.

    Args:
        transparent: the value that stands for transparency.
        depth: bits of whole numbers: 12, 16, or 32, which may be of any range.
        white_is_zero: whether whole numbers count from white; of 8 bits and fewer Pillow turns them itself.
    """

    transparent: int | tuple[int, ...] | bytes | None
    depth: int
    white_is_zero: bool


def _raw_mode(image: Image.Image) -> str | None:
    """How a file stores its values; None of an image that is decoded."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return None
    arguments = image.tile[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)  # what else there is tells no depth


def _transparent_value(image: Image.Image) -> int | tuple[int, ...] | bytes | None:
    """The value that a PNG without an alpha channel declares transparent, in the levels that Pillow decodes to."""
    declared = image.info.get("transparency")
    if declared is None or (stored_as := _raw_mode(image)) is None:
        return declared
    if stored_as == "RGB;16B":
        return tuple(value >> 8 for value in declared)
    return declared * GREY_STEPS[stored_as] if stored_as in GREY_STEPS else declared


def _depth(image: Image.Image) -> int:
    """Bits of whole numbers of an image that is not decoded yet; Pillow opens some of 16 as 32, those of 12 as 16."""
    stored_as = _raw_mode(image)
    if stored_as == "I;12":
        return 12
    return 32 if image.mode == "I" and (stored_as is None or "32" in stored_as) else 16


def _is_white_zero(image: Image.Image) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == 0


def _to_rgb(image: Image.Image, stored: _Stored) -> Image.Image:
    transparent = stored.transparent
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        grey = _from_whole(values, stored)
        if transparent is not None:
            grey[values == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        return _from_float(np.asarray(image))
    if transparent is not None:
        image.info["transparency"] = transparent
    if image.mode in ("LA", "PA", "RGBA") or transparent is not None:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_whole(values: np.ndarray, stored: _Stored) -> np.ndarray:
    """uint8 of grey values of 12 or 16 bits; of 32, of values in [0, 65535], or in [0, 255] where none exceeds 255.

    The upper 8 bits, as Pillow takes them of colours: the same picture in grey and in colour is one image.
    """
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its whole values are neither in [0, 255] nor in [0, 65535]")
    is_small = stored.depth == 32 and values.max() <= 255
    grey = (values if is_small else values >> (4 if stored.depth == 12 else 8)).astype(np.uint8)
    return 255 - grey if stored.white_is_zero else grey


def _from_float(values: np.ndarray) -> Image.Image:
    """Grey values in [0, 1], or in [0, 255] where any exceeds 1."""
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise ValueError("its float values are neither in [0, 1] nor in [0, 255]")
    levels = values * 255 if values.max() <= 1 else values
    return Image.fromarray(levels.round().astype(np.uint8)).convert("RGB")


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's centre crop: halve by boxes while the short side is at least twice `size`, then bicubic, then the centre.

    Source: Dhariwal and Nichol, "Diffusion models beat GANs", 2021; used by DiT, SiT and REPA.
    """
    if image.size == (size, size):
        return image
    image = _resize_short_side(image, size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def adm_random_crop(image: Image.Image, size: int, draw: Tensor) -> Image.Image:
    """ADM's random crop: the short side to between `size` and `size` / 0.8, then a square of `size` anywhere in it.

    Args:
        draw: three numbers in (0, 1): of the short side, the top and the left edge.
    """
    smallest, largest = (math.ceil(size / share) for share in reversed(ADM_CROP_SHARES))
    side, top, left = draw.tolist()
    image = _resize_short_side(image, smallest + int(side * (largest - smallest + 1)))
    top, left = int(top * (image.height - size + 1)), int(left * (image.width - size + 1))
    return image.crop((left, top, left + size, top + size))


def eq_vae_random_crop(image: Image.Image, size: int, draw: Tensor) -> Image.Image:
    """The random crop of EQ-VAE's training: a square of 0.5 to 1 of the short side anywhere, resized by area.

    Args:
        draw: three numbers in (0, 1): of the side, the top and the left edge.
    """
    share, top, left = draw.tolist()
    smallest, largest = EQ_VAE_CROP_SHARES
    side = max(1, int(min(image.size) * (smallest + share * (largest - smallest))))
    top, left = int(top * (image.height - side + 1)), int(left * (image.width - side + 1))
    weights = _area_weights(side, size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32)
    resized = np.einsum("ih,hwc,jw->ijc", weights, pixels, weights, optimize=True)
    return Image.fromarray(resized.round().clip(0, 255).astype(np.uint8))


@lru_cache(maxsize=64)
def _area_weights(side: int, size: int) -> np.ndarray:
    """[size, side]: the share of each of `size` equal stretches that each of `side` pixels covers."""
    edges, pixels = np.arange(size + 1) * side / size, np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * size / side).astype(np.float32)


RANDOM_CROPS = {"random_adm": adm_random_crop, "random_eq_vae": eq_vae_random_crop}  # by the name of the option


def _resize_short_side(image: Image.Image, side: int) -> Image.Image:
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    if width * height > MAXIMUM_PIXELS:
        raise ValueError(f"its sides differ too much: resized for the crop it would have {width} x {height} pixels")
    return image.resize((width, height), Image.Resampling.BICUBIC)


def image_to_tensor(image: Image.Image) -> Tensor:
    """RGB image to uint8 [3, H, W]."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def to_float(images: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor, rule: Literal["round", "truncate"] = "round") -> Tensor:
    """Float [..., 3, H, W], nominally in [-1, 1], to uint8.

    Args:
        rule: "round" to the nearest level, or "truncate" of 127.5 x + 128 as the public DiT and SiT samplers do. The
            rule moves a Fréchet distance a little, so every result states it.
    """
    if rule not in UINT8_RULES:
        raise ValueError(f"uint8 rule {rule!r} is unknown: use one of {', '.join(UINT8_RULES)}")
    scaled = images.float() * 127.5 + (127.5 if rule == "round" else 128.0)
    scaled = scaled.round() if rule == "round" else scaled
    return scaled.clamp(0, 255).to(torch.uint8)

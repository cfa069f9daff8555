"""The one door for pictures: open, orient, convert, crop, to [-1, 1] and back."""

import io
import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

UINT8_RULES = ("round", "truncate")
PREPROCESSING_VERSION = 1  # to be raised when the same file becomes another picture
RANDOM_CROP_SHARES = (0.8, 1.0)  # of the short side that ADM's random crop keeps


def open_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """An upright RGB picture from a path or encoded bytes.

    Applies the EXIF orientation, scales 16-bit and float values instead of clipping them, lays transparency on white,
    and takes the first picture of an animation.

    Args:
        name: what to call the picture in an error; the path by default.

    Raises:
        ValueError: if it cannot be read or decoded to its end, naming it.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "picture")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is not a readable picture ({error}): replace or remove it") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "I":  # how Pillow opens 16-bit PNG files of older writers
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return _from_float(np.asarray(image))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


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


def random_crop(image: Image.Image, size: int, draw: Tensor) -> Image.Image:
    """ADM's random crop: the short side to between `size` and `size` / 0.8, then a square of `size` anywhere in it.

    Args:
        draw: three numbers in (0, 1): of the short side, the top and the left edge.
    """
    smallest, largest = (math.ceil(size / share) for share in reversed(RANDOM_CROP_SHARES))
    side, top, left = draw.tolist()
    image = _resize_short_side(image, smallest + int(side * (largest - smallest + 1)))
    top, left = int(top * (image.height - size + 1)), int(left * (image.width - size + 1))
    return image.crop((left, top, left + size, top + size))


def _resize_short_side(image: Image.Image, side: int) -> Image.Image:
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def image_to_tensor(image: Image.Image) -> Tensor:
    """RGB picture to uint8 [3, H, W]."""
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

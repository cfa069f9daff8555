"""Images as a person has them: Pillow's, arrays, tensors, files, alone or several."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eqvae.data.images import center_crop, image_to_tensor, open_image, to_float, to_rgb, to_uint8
from eqvae.data.opening import open_source
from eqvae.data.sources import ImageSource

ImageLike = Image.Image | np.ndarray | Tensor | str | Path
LARGEST = 1.5  # of floats that are meant to lie in [-1, 1]: decoded images leave it a little


def to_images(given: ImageLike | Sequence[ImageLike], size: int | None = None) -> Tensor:
    """Images of any of the usual kinds, as autoencoders take them.

    Args:
        given: one image or several of a kind each: an image of Pillow's (turned upright, transparency on white), the
            path of an image file, an array uint8 [H, W], [H, W, 3], [H, W, 4] or [N, H, W, 3], or a tensor [3, H, W] or
            [N, 3, H, W], uint8 or float in [-1, 1].
        size: side that each is cropped to, at the centre, as training images are; None keeps them whole, and they must
            have one size.

    Returns:
        float32 [N, 3, H, W] in [-1, 1].

    Raises:
        ValueError: naming what is none of these, a file that is no image, or two images of different sizes.
    """
    several = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not several:
        raise ValueError("no image was given: the list is empty")
    images = [image for each in several for image in _images_of(each)]
    images = [image if size is None else _cropped(image, size) for image in images]
    sizes = list(dict.fromkeys(f"{image.shape[-2]} x {image.shape[-1]}" for image in images))
    if len(sizes) > 1:
        shown = " and ".join(sizes[:2])
        raise ValueError(f"images have different sizes, {shown} pixels: give size, the side that all are cropped to")
    return torch.stack(images)


def _images_of(given: object) -> list[Tensor]:
    """float [3, H, W] in [-1, 1] of each image in it."""
    if isinstance(given, Tensor):
        return _of_tensor(given)
    if isinstance(given, np.ndarray):
        return [_of_pillow(image) for image in _of_array(given)]
    if isinstance(given, str | Path):
        return [_of_pillow(open_image(given))]
    if isinstance(given, Image.Image):
        return [_of_pillow(to_rgb(given))]
    raise ValueError(f"{type(given).__name__} is no image: give an image of Pillow's, an array, a tensor or a path")


def _of_pillow(image: Image.Image) -> Tensor:
    return to_float(image_to_tensor(image))


def _of_array(array: np.ndarray) -> list[Image.Image]:
    is_several = array.ndim == 4 and array.shape[-1] in (3, 4)
    is_one = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))
    if array.dtype != np.uint8 or not (is_one or is_several) or 0 in array.shape:
        raise ValueError(
            f"array {array.dtype} {list(array.shape)} holds no images: give uint8 [H, W, 3] or [N, H, W, 3], or of "
            "floats in [-1, 1] a tensor [N, 3, H, W]"
        )
    return [to_rgb(Image.fromarray(image)) for image in (array if is_several else [array])]


def _of_tensor(tensor: Tensor) -> list[Tensor]:
    if tensor.ndim not in (3, 4) or tensor.shape[-3] != 3 or 0 in tensor.shape:
        raise ValueError(f"tensor {list(tensor.shape)} holds no images: give [3, H, W] or [N, 3, H, W], channels first")
    images = tensor.detach().cpu().reshape(-1, *tensor.shape[-3:])
    if images.dtype == torch.uint8:
        return list(to_float(images))
    if not images.is_floating_point() or not images.isfinite().all() or images.abs().max() > LARGEST:
        raise ValueError(f"tensor {tensor.dtype} holds no images: give uint8, or floats in [-1, 1]")
    return list(images.float())


def _cropped(image: Tensor, size: int) -> Tensor:
    if image.shape[-2:] == (size, size):
        return image  # floats are not rounded
    pixels = to_uint8(image).permute(1, 2, 0).contiguous().numpy()
    return _of_pillow(center_crop(Image.fromarray(pixels), size))


class GivenSource:
    """Images in memory as an image source of one class; labels are all 0.

    Args:
        images: float [N, 3, H, W] in [-1, 1], kept as uint8.
    """

    num_classes: int = 1
    class_names: list[str] | None = None

    def __init__(self, images: Tensor):
        self._images = to_uint8(images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index], 0

    def fingerprint(self) -> str:
        """sha256 of shape and pixels."""
        shape = str(tuple(self._images.shape)).encode()
        return hashlib.sha256(shape + self._images.contiguous().numpy().tobytes()).hexdigest()


Images = str | ImageSource | ImageLike | Sequence[ImageLike]
"""What is measured: a word of `open_source`, a source, or images themselves."""


def to_source(images: Images, image_size: int) -> ImageSource:
    """What a person calls images, as a source of them.

    Args:
        images: a text is a word of `open_source`; anything else but a source is what `to_images` takes, several of it.
        image_size: side of the images that a word means; others come as they are.

    Raises:
        ValueError: as of `open_source` and `to_images`.
    """
    if isinstance(images, str):
        return open_source(images, image_size)
    return images if isinstance(images, ImageSource) else GivenSource(to_images(images))


def describe_given(images: Images) -> str:
    """What a result calls its images: their word, or how many were given."""
    if isinstance(images, str):
        return images
    return f"{len(images)} images of {type(images).__name__}" if isinstance(images, ImageSource) else "images in memory"

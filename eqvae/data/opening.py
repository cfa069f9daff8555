"""Images named in one word on a command line."""

import torch
from torch import Tensor

from eqvae.data.folders import FolderSource
from eqvae.data.npz import NpzSource
from eqvae.data.parquet import ParquetSource
from eqvae.data.scenes import ScenesSource
from eqvae.data.shapes import ShapesSource
from eqvae.data.sources import ImageSource
from eqvae.data.tars import TarSource

PROCEDURAL = {"shapes": ShapesSource, "scenes": ScenesSource}


def open_source(where: str, image_size: int) -> ImageSource:
    """An image source: `shapes:COUNT[:SEED]`, `scenes:...`, a parquet or tar file or glob, an .npz (arr_0), a folder.

    Raises:
        ValueError: if it is none of these.
    """
    kind, _, numbers = where.partition(":")
    if kind in PROCEDURAL and numbers:
        numbers = numbers.split(":")
        if not all(number.isdigit() for number in numbers) or len(numbers) > 2:
            raise ValueError(f"images {where!r}: procedural ones are written {kind}:COUNT or {kind}:COUNT:SEED")
        return PROCEDURAL[kind](int(numbers[0]), image_size, seed=int(numbers[1]) if len(numbers) == 2 else 0)
    if where.endswith(".parquet"):
        return ParquetSource(where, image_size)
    if where.endswith(".tar"):
        return TarSource(where, image_size)
    if where.endswith(".npz"):
        return NpzSource(where, image_size)
    return FolderSource(where, image_size)


def read_images(where: str, image_size: int) -> Tensor:
    """All images of a source at once, uint8 [N, 3, S, S]; for small sets.

    Raises:
        ValueError: naming a file that holds no images.
    """
    source = open_source(where, image_size)
    return torch.stack([source[index][0] for index in range(len(source))])

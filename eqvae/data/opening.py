"""Pictures named in one word on a command line."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eqvae.data.shapes import ShapesSource
from eqvae.data.sources import FolderSource, ImageSource, ParquetSource
from eqvae.data.tars import TarSource


def open_source(where: str, image_size: int) -> ImageSource:
    """`shapes:COUNT[:SEED]`, a parquet or tar file or glob, or a folder, as an image source.

    Raises:
        ValueError: if it is none of these.
    """
    if where.startswith("shapes:"):
        numbers = where.split(":")[1:]
        if not all(number.isdigit() for number in numbers) or len(numbers) not in (1, 2):
            raise ValueError(f"pictures {where!r}: procedural ones are written shapes:COUNT or shapes:COUNT:SEED")
        return ShapesSource(int(numbers[0]), image_size, seed=int(numbers[1]) if len(numbers) == 2 else 0)
    if where.endswith(".parquet"):
        return ParquetSource(where, image_size)
    if where.endswith(".tar"):
        return TarSource(where, image_size)
    return FolderSource(where, image_size)


def read_pictures(where: str, image_size: int) -> Tensor:
    """All pictures of a source, or of an .npz in the ADM layout (arr_0 [N, H, W, 3]): uint8 [N, 3, H, W].

    Raises:
        ValueError: naming a file that holds no pictures.
    """
    if not where.endswith(".npz"):
        source = open_source(where, image_size)
        return torch.stack([source[index][0] for index in range(len(source))])
    if not Path(where).is_file():
        raise ValueError(f"no file at {where}")
    with np.load(where, allow_pickle=False) as arrays:
        if "arr_0" not in arrays or arrays["arr_0"].dtype != np.uint8 or arrays["arr_0"].ndim != 4:
            raise ValueError(f"{where} holds no pictures: expected arr_0, uint8 [N, H, W, 3], has {arrays.files}")
        return torch.from_numpy(arrays["arr_0"]).permute(0, 3, 1, 2).contiguous()

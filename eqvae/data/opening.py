"""Images named in one word on a command line."""

import difflib
import os
from glob import glob
from typing import Any

import torch
from torch import Tensor

from eqvae.data.folders import FolderSource
from eqvae.data.hub import HubSource
from eqvae.data.npz import NpzSource
from eqvae.data.parquet import ParquetSource
from eqvae.data.remote import is_pattern_of_shards
from eqvae.data.scenes import ScenesSource
from eqvae.data.shapes import ShapesSource
from eqvae.data.sources import ImageSource
from eqvae.data.tars import TarSource

PROCEDURAL = {"shapes": ShapesSource, "scenes": ScenesSource}
HUB = "hub"
HOW = "give shapes:COUNT[:SEED], scenes:COUNT[:SEED], a folder, a parquet or tar file, or an .npz"


def open_source(where: str, image_size: int) -> ImageSource:
    """An image source: `shapes:COUNT[:SEED]`, `scenes:...`, `hub:OWNER/NAME[:SPLIT]`, or what lies in files.

    These are a parquet or tar file or glob, tar files by a range or address (`https://.../a-{00..09}.tar`), an .npz
    (`arr_0`), a folder.

    Raises:
        ValueError: if it is none of these.
    """
    family, settings = find_source(where, image_size)
    if family is FolderSource:
        require_there(where)
    return family(**settings)


def find_source(where: str, image_size: int) -> tuple[type, dict[str, Any]]:
    """The class that a word of `open_source` means, and what it is built with; nothing is opened.

    Raises:
        ValueError: for procedural images that are not written as `open_source` says.
    """
    kind, _, numbers = where.partition(":")
    if kind in PROCEDURAL and numbers:
        numbers = numbers.split(":")
        if not all(number.isdigit() for number in numbers) or len(numbers) > 2:
            raise ValueError(f"images {where!r}: procedural ones are written {kind}:COUNT or {kind}:COUNT:SEED")
        seed = int(numbers[1]) if len(numbers) == 2 else 0
        return PROCEDURAL[kind], {"num_images": int(numbers[0]), "image_size": image_size, "seed": seed}
    if kind == HUB and numbers:
        name, _, split = numbers.partition(":")
        return HubSource, {"path": name, "image_size": image_size, **({"split": split} if split else {})}
    for suffix, family, key in ((".parquet", ParquetSource, "files"), (".tar", TarSource, "files"),
                                (".npz", NpzSource, "file")):  # fmt: skip
        if where.endswith(suffix):
            return family, {key: where, "image_size": image_size}
    return FolderSource, {"root": where, "image_size": image_size}


def source_config(where: str, image_size: int) -> dict[str, Any]:
    """The same as configs have it, `class_path` and `init_args`; errors as of `find_source`."""
    family, settings = find_source(where, image_size)
    return {"class_path": f"{family.__module__}.{family.__qualname__}", "init_args": settings}


def require_there(where: str) -> None:
    """Refuse a word of `open_source` for images that nothing draws and that lie nowhere.

    Raises:
        ValueError: saying what may be given, or which kind of procedural images was meant.
    """
    kind, colon, _ = where.partition(":")
    if (colon and kind in (*PROCEDURAL, HUB)) or is_pattern_of_shards(where) or os.path.exists(where) or glob(where):
        return
    near = difflib.get_close_matches(kind, PROCEDURAL, n=1) if colon else []
    raise ValueError(f"nothing at {where}: " + (f"did you mean {near[0]}:COUNT[:SEED]?" if near else HOW))


def read_images(where: str, image_size: int) -> Tensor:
    """All images of a source at once, uint8 [N, 3, S, S]; for small sets.

    Raises:
        ValueError: naming a file that holds no images.
    """
    source = open_source(where, image_size)
    return torch.stack([source[index][0] for index in range(len(source))])

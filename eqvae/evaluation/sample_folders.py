"""The output folder of `sample.py`: its files, and the images in them."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eqvae.data.npz import NpzSource
from eqvae.hashes import read_json
from eqvae.records import FLAG, SHA256, WHOLE, require_entries

RECORD, GRID, ARRAY = "samples.json", "grid.png", "samples.npz"
ENTRIES = {"num_images": WHOLE, "part_size": WHOLE, "finished": FLAG}

ImagesOf = Callable[[range], Tensor]
"""uint8 images [N, 3, H, W] of a range of indices."""


def read_samples_record(folder: Path) -> dict[str, Any] | None:
    """What `sample.py` says of a folder; None where it says nothing.

    Raises:
        ValueError: naming a record that is damaged, of an earlier release, or none of samples.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        require_entries(record, ENTRIES | ({"images_sha256": SHA256} if record.get("finished") is True else {}))
    except ValueError as error:
        named = "" if str(path) in str(error) else f"{path} is no record of samples: "
        raise ValueError(f"{named}{error}: give another folder, or remove this one and sample again") from None
    return record


def single_image(folder: Path, index: int) -> Path:
    """Where the PNG of an image lies."""
    return Path(folder) / f"{index:06d}.png"


def part_ranges(record: Mapping[str, Any]) -> list[range]:
    """Image indices of each part, in whose order images are hashed."""
    total, size = record["num_images"], record["part_size"]
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def require_as_made(folder: Path, record: Mapping[str, Any]) -> Path:
    """What to read a finished folder's images from: samples.npz, or the folder with its single images.

    Raises:
        ValueError: if there are neither, or they are not those that `sample.py` made.
    """
    folder = Path(folder)
    has_array = (folder / ARRAY).is_file()
    names = {path.name for path in folder.glob("*.png")} - {GRID}
    if not has_array and not names:
        raise ValueError(f"{folder} holds only a grid: sample again with --npz or --png")
    wanted = {single_image(folder, index).name for index in range(record["num_images"])}
    if not has_array and not wanted <= names:
        count = f"{len(wanted & names)} of {len(wanted)} images"
        raise ValueError(f"{folder} has {count}: start sample.py again, it writes the others")
    strangers = sorted(names - wanted)
    if not has_array and strangers:
        raise ValueError(f"{folder} holds {strangers[0]}, which sample.py did not write: move it away")
    images_of = images_of_array(folder) if has_array else images_of_single_files(folder)
    if not hold_all(images_of, part_ranges(record), record["images_sha256"]):
        which = f"{ARRAY} holds" if has_array else "its PNGs are"
        raise ValueError(f"{folder}: {which} other images than were sampled: start sample.py again, it makes them anew")
    return folder / ARRAY if has_array else folder


def images_to_sha256(images_of: ImagesOf, ranges: list[range]) -> str:
    """Of the pixels of all images in order, channels last, whatever file they lie in."""
    digest = hashlib.sha256()
    for indices in ranges:
        digest.update(channels_last(images_of(indices)))
    return digest.hexdigest()


def channels_last(images: Tensor) -> memoryview:
    """The bytes of images [N, 3, H, W] as files have them."""
    return images.permute(0, 2, 3, 1).contiguous().numpy().data.cast("B")


def hold_all(images_of: ImagesOf, ranges: list[range], sha256: str) -> bool:
    """Whether files have all images as they were made; `sha256` as of `images_to_sha256`."""
    try:
        return images_to_sha256(images_of, ranges) == sha256
    except (OSError, ValueError, IndexError, RuntimeError, SyntaxError):  # missing or damaged; Pillow raises all these
        return False


def images_of_array(folder: Path) -> ImagesOf:
    """Reads samples.npz."""
    sources: list[NpzSource] = []

    def read(indices: range) -> Tensor:
        if not sources:
            sources.append(NpzSource(Path(folder) / ARRAY))
        return torch.stack([sources[0][index][0] for index in indices])

    return read


def images_of_single_files(folder: Path) -> ImagesOf:
    """Reads the PNGs of a folder."""

    def read(indices: range) -> Tensor:
        images = [np.array(Image.open(single_image(folder, index)).convert("RGB")) for index in indices]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    return read

"""Images that are decoded on access: what folders, parquet and tar files have in common, damaged files above all."""

import hashlib
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from eqvae.cores import num_cores
from eqvae.data.images import center_crop, image_to_tensor, open_image, unreadable
from eqvae.selection import evenly_spaced

IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}
OTHER_IMAGE_SUFFIXES = {
    *(".heic", ".heif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".tga", ".exr", ".hdr", ".ico", ".xcf"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf"),
}
SEARCH_SECONDS = 60  # for the other damaged files, once one was met
SEARCH_STEP = 64  # files between two looks at the clock
NUM_FINGERPRINTED = 100  # images whose content tells data sets apart where names and sizes do not
NUM_NAMED = 20  # damaged files that one message names


class EncodedSource(ABC):
    """Images that are decoded on access.

    Args:
        image_size: side in pixels after the crop.
        num_images: how many images there are.
        on_error: "stop" raises at an unreadable image and names all that can be found in a minute; "skip" gives the
            following readable one in its place, with that one's label, warns, and keeps count in `num_skipped`.
        max_skipped: different images that "skip" may leave out, per process; one more stops and names them.

    Raises:
        ValueError: for another `on_error`, or a negative limit.
    """

    def __init__(
        self, image_size: int, num_images: int, on_error: Literal["stop", "skip"] = "stop", max_skipped: int = 100
    ):
        if on_error not in ("stop", "skip"):
            raise ValueError(f"on_error {on_error!r} is unknown: use stop or skip")
        if max_skipped < 0:
            raise ValueError(f"max_skipped must not be negative, got {max_skipped}")
        self.image_size, self.on_error, self.max_skipped = image_size, on_error, max_skipped
        self._skipped = torch.zeros(num_images, dtype=torch.bool).share_memory_()  # loader processes count, too

    @abstractmethod
    def _read(self, index: int) -> tuple[Path | bytes, str, int]:
        """File or its content, what to call it in an error, and the class."""

    def __len__(self) -> int:
        return len(self._skipped)

    @property
    def num_skipped(self) -> int:
        """Different images that could not be read so far."""
        return int(self._skipped.sum())

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """uint8 [3, S, S] of the central crop, and the class."""
        return self.cropped(index, center_crop)

    def cropped(self, index: int, crop: Callable[[Image.Image, int], Image.Image]) -> tuple[Tensor, int]:
        """uint8 [3, S, S] and the class, cropped by `crop(image, S)`.

        Raises:
            ValueError: naming the images that cannot be read, where they stop the run.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        for step in range(len(self)):
            place = (index + step) % len(self)
            try:
                return self._decode(place, crop)
            except ValueError as error:
                if self.on_error == "stop":
                    found = Search(len(self), 1, [str(error)])
                    raise ValueError(find_unreadable(self, found, place + 1, SEARCH_SECONDS).message()) from None
                self._skip(place, error)
        raise ValueError(f"none of the {len(self)} images is readable: check the data")

    def _decode(self, index: int, crop: Callable[[Image.Image, int], Image.Image]) -> tuple[Tensor, int]:
        content, name, label = self._read(index)
        image = open_image(content, name)
        try:
            return image_to_tensor(crop(image, self.image_size)), label
        except ValueError as error:
            raise unreadable(name, error) from None

    def _content_of_equal_sizes(self, sizes: Iterable[int | None]) -> str:
        """For a fingerprint of names and sizes in bytes: "" where these differ, else sha256 of evenly spaced images.

        Uncompressed images of one side are all of one size, which tells nothing of them.
        """
        if len(set(sizes)) > 1:
            return ""
        digest = hashlib.sha256()
        for index in evenly_spaced(NUM_FINGERPRINTED, len(self)).tolist():
            content, _, _ = self._read(index)
            if isinstance(content, bytes) or content.is_file():  # what is missing is reported when it is read
                digest.update(content if isinstance(content, bytes) else content.read_bytes())
        return digest.hexdigest()

    def problem(self, index: int) -> str | None:
        """Why an image cannot be read, in one line that names it; None of a good one."""
        try:
            self._decode(index, center_crop)
        except ValueError as error:
            return str(error)
        return None

    def _skip(self, index: int, error: ValueError) -> None:
        if self._skipped[index]:
            return
        self._skipped[index] = True
        if self.num_skipped > self.max_skipped:
            names = [self._read(skipped)[1] for skipped in self._skipped.nonzero()[:, 0].tolist()]
            raise ValueError(
                f"{len(names)} images cannot be read, more than max_skipped {self.max_skipped}: {list_names(names)}: "
                "replace or remove them"
            )
        warnings.warn(f"skipped image {index}: {error}", stacklevel=4)


@dataclass
class Search:
    """What a search for damaged images found: a line for each, how many images were looked at, and of how many."""

    total: int
    num_checked: int = 0
    problems: list[str] = field(default_factory=list)

    def message(self) -> str:
        """All in one line."""
        count, looked_at, more = len(self.problems), f"{self.total} images", ""
        if self.num_checked < self.total:
            looked_at = f"the {self.num_checked} images looked at so far, of {self.total},"
            more = " (`evaluate.py images` looks at all)"
        verb = "is" if count == 1 else "are"
        return f"{count} of {looked_at} {verb} unreadable: {list_names(self.problems)}: replace or remove them{more}"


def find_unreadable(
    source: EncodedSource,
    search: Search | None = None,
    first: int = 0,
    seconds: float | None = None,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Search:
    """Decode the images of a source, from `first` on and round to it, and note those that cannot be read.

    Args:
        search: to go on with; None begins one.
        seconds: after which no more are begun; None looks at all.
        num_threads: that decode side by side; None takes one per core.
        progress: is told how many images are done, and of how many.
    """
    search, started = search or Search(len(source)), time.monotonic()
    order = [(first + step) % len(source) for step in range(len(source) - search.num_checked)]
    with ThreadPoolExecutor(num_threads or num_cores()) as pool:
        for start in range(0, len(order), SEARCH_STEP):
            if seconds is not None and time.monotonic() - started > seconds:
                break
            part = order[start : start + SEARCH_STEP]
            search.problems += filter(None, pool.map(source.problem, part))
            search.num_checked += len(part)
            progress(search.num_checked, search.total)
    return search


def list_names(names: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = f", and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + more


def warn_of_other_formats(where: str, names: list[str]) -> None:
    """Warn of images that are left out, where there are any."""
    if names:
        found = f"{len(names)} images in formats that are not read are left out ({list_names(names)})"
        warnings.warn(f"{where}: {found}", stacklevel=3)


def matching_files(pattern: str, kind: str) -> list[str]:
    """The files that match a path or glob, sorted.

    Args:
        kind: of the files, for the message: "parquet", "tar".

    Raises:
        ValueError: if there is none, or one is a pipe or a device, which would never end.
    """
    expanded = os.path.expanduser(pattern)
    paths = [expanded] if os.path.exists(expanded) else sorted(glob(expanded))
    if not paths:
        raise ValueError(f"no {kind} file matches {pattern}: check the path or glob")
    for path in paths:
        if not os.path.isfile(path):
            raise ValueError(f"{path} is no regular file: give a {kind} file")
    return paths

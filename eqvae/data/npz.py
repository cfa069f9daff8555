"""Images of an .npz in the ADM layout, read row by row."""

import hashlib
import math
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from eqvae.errors import first_line

IMAGES = "arr_0"


class NpzSource:
    """`arr_0` uint8 [N, H, H, 3] of an .npz file as an image source of one class; labels are all 0.

    Rows are read from the archive as they are asked for, in order at no extra cost, so that 50,000 images need no
    10 GB of memory; nothing is unpickled.

    Args:
        file: the .npz file.
        image_size: side that the images must have; None takes theirs.

    Raises:
        ValueError: naming the file that is missing, damaged, or holds no images of that size.
    """

    num_classes: int = 1
    class_names: list[str] | None = None

    def __init__(self, file: str | Path, image_size: int | None = None):
        self.file = Path(file)
        shape, dtype, fortran_order = npz_arrays(self.file).get(IMAGES, ((), None, False))
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or fortran_order:
            raise ValueError(f"{file} holds no images: expected {IMAGES}, uint8 [N, H, H, 3], has {shape} {dtype}")
        if image_size not in (None, shape[1]):
            raise ValueError(f"{file} holds images of side {shape[1]}, not {image_size}: set the image size to that")
        if min(shape) < 1:
            raise ValueError(f"{file} holds no images: {IMAGES} has shape {shape}: write it again")
        self.num_images, self.image_size = shape[0], shape[1]
        self._row_bytes = math.prod(shape[1:])
        self._stream: IO[bytes] | None = None
        self._start, self._process = 0, 0

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < self.num_images:
            raise IndexError(index)
        try:
            # A forked loader must not share the position in the file.
            if self._stream is None or self._process != os.getpid():
                self._stream = zipfile.ZipFile(self.file).open(f"{IMAGES}.npy")  # noqa: SIM115 (for its whole life)
                _read_header(self._stream)
                self._start, self._process = self._stream.tell(), os.getpid()
            self._stream.seek(self._start + index * self._row_bytes)
            row = self._stream.read(self._row_bytes)
        except Exception as error:  # a damaged archive can raise anything
            reason = first_line(error)
            raise ValueError(f"{self.file} is damaged at image {index} ({reason}): write it again") from None
        if len(row) < self._row_bytes:
            raise ValueError(f"{self.file} ends before image {index}: write it again")
        pixels = torch.frombuffer(bytearray(row), dtype=torch.uint8).view(self.image_size, self.image_size, 3)
        return pixels.permute(2, 0, 1).contiguous(), 0

    def fingerprint(self) -> str:
        """sha256 of name, size and checksums of the archive's members."""
        digest = hashlib.sha256(b"npz")
        with zipfile.ZipFile(self.file) as archive:
            for member in sorted(archive.infolist(), key=lambda member: member.filename):
                digest.update(f"{member.filename}/{member.file_size}/{member.CRC}\n".encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_stream": None, "_process": 0}


def npz_arrays(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype, bool]]:
    """Name to (shape, dtype, Fortran order) of the arrays of an .npz file, without reading them.

    Raises:
        ValueError: naming a file that is missing or no .npz, or has an array of another size than its header says.
    """
    if not Path(file).is_file():
        raise ValueError(f"no file at {file}")
    try:
        with zipfile.ZipFile(file) as archive:
            if twice := [name for name, count in Counter(archive.namelist()).items() if count > 1]:
                raise ValueError(f"it holds {twice[0].removesuffix('.npy')} twice")
            found = {}
            for name in archive.namelist():
                with archive.open(name) as stream:
                    shape, dtype, _ = found[name.removesuffix(".npy")] = _read_header(stream)
                    held, claimed = archive.getinfo(name).file_size - stream.tell(), dtype.itemsize * math.prod(shape)
                if not dtype.hasobject and held != claimed:
                    raise ValueError(f"{name} holds {held} bytes, its shape {shape} takes {claimed}")
            return found
    except Exception as error:  # a damaged or encrypted archive can raise anything
        raise ValueError(f"{file} is not a readable .npz file ({first_line(error)})") from None


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, bool]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(stream)
    return shape, dtype, fortran_order

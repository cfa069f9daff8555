"""Where pictures come from: folders, parquet files and tar files, one picture at a time."""

import hashlib
import json
import os
import warnings
from collections.abc import Collection
from glob import glob
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor

from eqvae.data.images import PREPROCESSING_VERSION, center_crop, image_to_tensor, open_image, random_crop

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


@runtime_checkable
class ImageSource(Protocol):
    """A list of labelled pictures of one size."""

    num_classes: int
    class_names: list[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """uint8 [3, S, S] and the class of one picture."""

    def fingerprint(self) -> str:
        """sha256 of what defines the pictures: files, crop and size."""


@runtime_checkable
class MaskedSource(Protocol):
    """An image source that knows what in an image is foreground."""

    def masks(self, indices: Tensor) -> Tensor:
        """bool [B, S, S] of the images of these indices [B]."""


def describe_pictures(source: ImageSource) -> dict:
    """What a latent cache records of its pictures, and compares them by."""
    return {
        "fingerprint": source.fingerprint(),
        "num_images": len(source),
        "num_classes": source.num_classes,
        "class_names": source.class_names,
        "image_size": source[0][0].shape[-1],
        "crop": "center",
        "preprocessing_version": PREPROCESSING_VERSION,
    }


class EncodedSource:
    """Pictures that are decoded on access; what folders, parquet and tar files have in common.

    Args:
        image_size: side in pixels after ADM's crop.
        num_images: how many pictures there are.
        on_error: "stop" raises for an unreadable picture; "skip" gives the following readable one in its place, with
            that one's label, warns, and keeps count in `num_skipped`.
    """

    def __init__(self, image_size: int, num_images: int, on_error: Literal["stop", "skip"] = "stop"):
        if on_error not in ("stop", "skip"):
            raise ValueError(f"on_error {on_error!r} is unknown: use stop or skip")
        self.image_size, self.on_error = image_size, on_error
        self._skipped = torch.zeros(num_images, dtype=torch.bool).share_memory_()  # loader processes count, too

    def _read(self, index: int) -> tuple[Path | bytes, str, int]:
        """File or its content, what to call it in an error, and the class."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._skipped)

    @property
    def num_skipped(self) -> int:
        """Different pictures that could not be read so far."""
        return int(self._skipped.sum())

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """uint8 [3, S, S] of the central crop, and the class."""
        return self.crop(index, None)

    def crop(self, index: int, draw: Tensor | None) -> tuple[Tensor, int]:
        """uint8 [3, S, S] and the class; `draw` [3] takes a random crop instead of the central one."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        for step in range(len(self)):
            content, name, label = self._read((index + step) % len(self))
            try:
                image = open_image(content, name)
            except ValueError as error:
                if self.on_error == "stop":
                    raise
                self._skip((index + step) % len(self), error)
                continue
            size = self.image_size
            return image_to_tensor(center_crop(image, size) if draw is None else random_crop(image, size, draw)), label
        raise ValueError(f"none of the {len(self)} pictures is readable: check the data")

    def _skip(self, index: int, error: ValueError) -> None:
        if not self._skipped[index]:
            self._skipped[index] = True
            warnings.warn(f"skipped picture {index}: {error}", stacklevel=4)


class FolderSource(EncodedSource):
    """Pictures of a folder. Its subfolders, sorted by name, are the classes; without subfolders there is one class.

    Args:
        root: the folder; read with everything below it, hidden files left out.
        image_size, on_error: see `EncodedSource`.
        exclude: file names that are left out.

    Raises:
        ValueError: if the folder is missing, holds no pictures, or one of its classes is empty.
    """

    def __init__(
        self, root: str, image_size: int, on_error: Literal["stop", "skip"] = "stop", exclude: Collection[str] = ()
    ):
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"image folder {root} does not exist: check data.init_args.train.init_args.root")
        folders = sorted(entry for entry in self.root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        self.class_names = [folder.name for folder in folders] or ["all"]
        self.num_classes = len(self.class_names)
        self.files: list[tuple[Path, int]] = []
        for label, folder in enumerate(folders or [self.root]):
            found = sorted(path for path in _pictures_below(folder) if path.name not in exclude)
            if not found:
                raise ValueError(f"image folder {folder} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
            self.files += [(path, label) for path in found]
        super().__init__(image_size, len(self.files), on_error)

    def _read(self, index: int) -> tuple[Path, str, int]:
        path, label = self.files[index]
        return path, str(path), label

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"folder/{self.image_size}".encode())
        for path, label in self.files:
            digest.update(f"{path.relative_to(self.root)}/{label}/{path.stat().st_size}\n".encode())
        return digest.hexdigest()


def _pictures_below(folder: Path):
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield Path(parent) / name


class ParquetSource(EncodedSource):
    """Pictures of parquet files in the layout of the hub: `image` = struct{bytes, path} (or plain bytes), `label`.

    Encoded pictures are held in memory (about 1 GB per 10,000 ImageNet files); decoding happens on access.

    Args:
        files: path or glob of the files, read in sorted order.
        image_size, on_error: see `EncodedSource`.
        image_column, label_column: names of the columns.
        max_images: read only the first so many; null reads all.

    Raises:
        ValueError: naming the file or column that is missing or unreadable.
    """

    def __init__(
        self,
        files: str,
        image_size: int,
        image_column: str = "image",
        label_column: str = "label",
        max_images: int | None = None,
        on_error: Literal["stop", "skip"] = "stop",
    ):
        self.paths, self.image_column = sorted(glob(os.path.expanduser(files))), image_column
        if not self.paths:
            raise ValueError(f"no parquet file matches {files}: check the path or glob")
        tables = [_read_columns(path, [image_column, label_column]) for path in self.paths]
        whole = pyarrow.concat_tables(tables)
        self.num_classes = int(whole[label_column].to_numpy().max()) + 1  # a prefix must not lose classes
        table = whole.slice(0, max_images)
        self.labels = torch.tensor(table[label_column].to_numpy())
        images = table[image_column].combine_chunks()
        is_struct = pyarrow.types.is_struct(images.type)
        self._encoded = images.field("bytes") if is_struct else images
        self.class_names = _class_names(tables[0].schema.metadata, label_column)
        super().__init__(image_size, len(self.labels), on_error)

    def _read(self, index: int) -> tuple[bytes, str, int]:
        encoded = self._encoded[index].as_py()
        return encoded or b"", f"{self.paths[0]} and following, row {index}", int(self.labels[index])

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"parquet/{self.image_size}/{self.image_column}/{len(self)}".encode())
        for path in self.paths:
            digest.update(f"{Path(path).name}/{Path(path).stat().st_size}\n".encode())
        return digest.hexdigest()


def _read_columns(path: str, columns: list[str]) -> pyarrow.Table:
    try:
        known = pyarrow.parquet.read_schema(path).names
        missing = [name for name in columns if name not in known]
        if missing:
            raise ValueError(f"parquet file {path} has no column {missing[0]!r}, only {', '.join(known)}")
        return pyarrow.parquet.read_table(path, columns=columns, memory_map=True)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable parquet file ({str(error).splitlines()[0]})") from None


def _class_names(metadata: dict | None, label_column: str) -> list[str] | None:
    """Names that the hub's exporter leaves in the schema, if it did."""
    features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return features.get(label_column, {}).get("names")


class InMemorySource:
    """Another source, decoded once into a uint8 array: for small pictures that are read many times.

    Args:
        source: what to decode, at first use.
    """

    def __init__(self, source: ImageSource):
        self.source = source
        self.num_classes, self.class_names = source.num_classes, source.class_names
        self._pictures: Tensor | None = None
        self._labels: list[int] = []

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self._pictures is None:
            first, _ = self.source[0]
            self._pictures = torch.empty(len(self), *first.shape, dtype=torch.uint8)
            for row in range(len(self)):
                self._pictures[row], label = self.source[row]
                self._labels.append(label)
        return self._pictures[index], self._labels[index]

    def fingerprint(self) -> str:
        return self.source.fingerprint()

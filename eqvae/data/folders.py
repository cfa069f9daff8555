"""Images of a folder: which files are read, of which class, and what is never left out in silence."""

import hashlib
import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from eqvae.data.encoded import (
    IMAGE_SUFFIXES,
    OTHER_IMAGE_SUFFIXES,
    EncodedSource,
    list_names,
    warn_of_other_formats,
)


class FolderSource(EncodedSource):
    """Images of a folder. Its subfolders, sorted by name, are the classes; without subfolders there is one class.

    Read is everything below the folder whose name ends as an image's does, links and linked folders included; a folder
    that is reached twice (a link back to a folder above, say) is read once per class. Hidden files and folders are left
    out. Images of formats that are not read are warned of.

    Args:
        root: the folder.
        image_size, on_error, max_skipped: see `EncodedSource`.
        exclude: file names that are left out.
        class_folders: false reads everything below the folder as one class, images beside subfolders included.

    Raises:
        ValueError: if the folder is missing or holds no images, one of its classes is empty, images lie beside the
            class folders, or one of the files is a pipe or a device.
    """

    def __init__(
        self,
        root: str,
        image_size: int,
        on_error: Literal["stop", "skip"] = "stop",
        exclude: Collection[str] = (),
        max_skipped: int = 100,
        class_folders: bool = True,
    ):
        self.root = Path(root)
        if self.root.is_file():
            raise ValueError(f"image folder {root} is a file: give the folder that it lies in")
        if not self.root.is_dir():
            raise ValueError(f"image folder {root} does not exist: check `root` of a config, or the path")
        listing = _Listing(exclude)
        folders = _class_folders(self.root) if class_folders else []
        if folders:
            _refuse_images(list(listing.images_in(self.root)), self.root)
        self.class_names: list[str] | None = [folder.name for folder in folders] or ["all"]
        self.num_classes = len(self.class_names)
        self.files: list[tuple[Path, int]] = []
        for label, folder in enumerate(folders or [self.root]):
            found = [Path(path) for path in listing.images_below(folder, set())]
            if not found:
                raise ValueError(f"image folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
            self.files += [(path, label) for path in found]
        warn_of_other_formats(f"image folder {root}", listing.other_formats)
        super().__init__(image_size, len(self.files), on_error, max_skipped)

    def _read(self, index: int) -> tuple[Path, str, int]:
        path, label = self.files[index]
        return path, str(path), label

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"folder/{self.image_size}".encode())
        sizes = [_size(path) for path, _ in self.files]
        for (path, label), size in zip(self.files, sizes, strict=True):
            digest.update(os.fsencode(path.relative_to(self.root)) + f"/{label}/{size}\n".encode())
        digest.update(self._content_of_equal_sizes(sizes).encode())
        return digest.hexdigest()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # a link to nothing, which is reported when it is read
        return None


def _class_folders(root: Path) -> list[Path]:
    """The folders in `root`, sorted by name, without links to `root` or above it, which are warned of."""
    found = []
    above = {folder.resolve() for folder in (root, *root.resolve().parents)}
    for entry in _entries(root):
        if entry.name.startswith(".") or not _is_folder(entry):
            continue
        if Path(entry.path).resolve() in above:
            warnings.warn(f"image folder {root}: {entry.name} leads back above itself and is no class", stacklevel=3)
            continue
        found.append(Path(entry.path))
    return found


def _refuse_images(paths: list[str], root: Path) -> None:
    if paths:
        names = list_names([Path(path).name for path in paths])
        raise ValueError(
            f"image folder {root} holds {len(paths)} images beside its class folders ({names}): move them into one, "
            "or read everything as one class with class_folders: false"
        )


class _Listing:
    """Walks folders for images, and notes those of formats that are not read.

    Args:
        exclude: file names that are left out.
    """

    def __init__(self, exclude: Collection[str]):
        self.exclude, self.other_formats = exclude, []

    def images_in(self, folder: str | Path) -> Iterator[str]:
        """Paths of the images that lie directly in a folder."""
        for entry in _entries(folder):
            if not _is_folder(entry) and self._is_image(entry):
                yield entry.path

    def images_below(self, folder: str | Path, visited: set[tuple[int, int]]) -> Iterator[str]:
        """Paths of the images in a folder and below, by name; folders that `visited` knows are left out."""
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
        for entry in _entries(folder):
            if _is_folder(entry):
                if not entry.name.startswith("."):
                    yield from self.images_below(entry.path, visited)
            elif self._is_image(entry):
                yield entry.path

    def _is_image(self, entry: os.DirEntry) -> bool:
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith(".") or entry.name in self.exclude:
            return False
        if suffix in OTHER_IMAGE_SUFFIXES:
            self.other_formats.append(entry.path)
        if suffix not in IMAGE_SUFFIXES:
            return False
        if not _is_file(entry) and os.path.exists(entry.path):
            raise ValueError(f"{entry.path} is no file but a pipe, a socket or a device: remove it")
        return True


def _entries(folder: str | Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"image folder {folder} cannot be read ({error.strerror}): check its permissions") from None


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False

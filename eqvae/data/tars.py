"""Images of tar files, as WebDataset packs them, read in place."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import torch

from eqvae.data.encoded import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, EncodedSource, warn_of_other_formats
from eqvae.data.remote import find_files
from eqvae.files import CHUNK_BYTES

MAXIMUM_MEMBER_BYTES = 1 << 28
MAXIMUM_CLASS = 1 << 24  # beyond it nothing could be trained on the classes below


class TarSource(EncodedSource):
    """Images of uncompressed tar files: members that share all of their path up to its first dot are one sample.

    The headers are read once, at the start; an image is read at its place in the file, and nothing is ever unpacked.
    Members that are no plain files (links, devices), or whose path is absolute or holds "..", are left out, as are
    samples without an image; those whose image is of a format that is not read are warned of.

    The class is the number in the sample's `.cls`, or `label` (else `cls`) of its `.json`; where there is neither,
    the folder in the tar's paths (sorted by name), and one class where there are no folders.

    Args:
        files: path or glob of the tar files, read in sorted order; or, with a range, `shards-{000000..000009}.tar`,
            also by address: `https://...`, `hf://datasets/OWNER/NAME/...`, `file://...`.
        image_size, on_error, max_skipped: see `EncodedSource`.
        cache_folder, checksums: of files that are fetched, see `eqvae.data.remote.find_files`.

    Raises:
        ValueError: naming a file that is missing, compressed, damaged, cut off, or holds no images, and the member
            that is too large, repeated, or lacks its class or has two.
    """

    def __init__(
        self,
        files: str,
        image_size: int,
        on_error: Literal["stop", "skip"] = "stop",
        max_skipped: int = 100,
        cache_folder: str | None = None,
        checksums: str | None = None,
    ):
        self.paths = find_files(files, "tar", cache_folder, checksums)
        other: list[str] = []
        samples = [(number, *sample) for number, path in enumerate(self.paths) for sample in _samples(path, other)]
        warn_of_other_formats(f"tar files {files}", other)
        if not samples:
            raise ValueError(f"tar file {self.paths[0]} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        tars, self._names, offsets, sizes, labels = zip(*samples, strict=True)
        self.labels, self.class_names = _classes(labels, [self.paths[tar] for tar in tars], self._names)
        self.num_classes = len(self.class_names) if self.class_names else int(self.labels.max()) + 1
        self._places = torch.tensor([tars, offsets, sizes]).T.contiguous()
        super().__init__(image_size, len(samples), on_error, max_skipped)

    def _read(self, index: int) -> tuple[bytes, str, int]:
        tar, offset, size = self._places[index].tolist()
        with open(self.paths[tar], "rb") as file:
            file.seek(offset)
            content = file.read(size)
        return content, f"{self.paths[tar]}: {self._names[index]}", int(self.labels[index])

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"tar/{self.image_size}".encode())
        for path in self.paths:
            digest.update(f"{Path(path).name}/{Path(path).stat().st_size}\n".encode())
        for name, place, label in zip(self._names, self._places.tolist(), self.labels.tolist(), strict=True):
            digest.update(f"{name}/{place}/{label}\n".encode(errors="surrogateescape"))
        digest.update(self._content_of_equal_sizes(self._places[:, 2].tolist()).encode())
        return digest.hexdigest()


def _samples(path: str, other_formats: list[str]) -> Iterator[tuple[str, int, int, int | None]]:
    """Name, offset, size and class (None: not told) of every image of a tar file.

    Args:
        other_formats: takes the names of images that are not read, of samples without another.
    """
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    others: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if _is_left_out(member, name):
                    continue
                if member.size > MAXIMUM_MEMBER_BYTES:
                    raise ValueError(f"{path}: {name} has {member.size} bytes, above {MAXIMUM_MEMBER_BYTES}: remove it")
                stem, _, extension = name.name.partition(".")
                key, extension = str(name.parent / stem), extension.lower()
                suffix = f".{extension.rpartition('.')[2]}"
                if suffix in OTHER_IMAGE_SUFFIXES:
                    others[key] = f"{path}: {name}"
                elif suffix in IMAGE_SUFFIXES:
                    if key in images:
                        raise ValueError(f"{path}: {name} and {images[key][0]} are one sample: keep one image of it")
                    images[key] = (str(name), member.offset_data, member.size)
                elif extension in ("cls", "json"):
                    stream = tar.extractfile(member)
                    assert stream is not None, "regular files have a content"
                    label = _label(stream.read(), extension, f"{path}: {name}")
                    if label is not None and labels.setdefault(key, label) != label:
                        raise ValueError(f"{path}: {name} says class {label}, another file {labels[key]}: keep one")
            _require_end(path, tar.offset)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{path} is not a readable, uncompressed tar file ({error}): pack it again") from None
    other_formats += [name for key, name in others.items() if key not in images]
    for key, image in images.items():
        yield (*image, labels.get(key))


def _is_left_out(member: tarfile.TarInfo, name: PurePosixPath) -> bool:
    return not member.isreg() or name.is_absolute() or ".." in name.parts or name.name.startswith(".")


def _require_end(path: str, offset: int) -> None:
    """Refuse a file that goes on, or ends, without the blocks of zeros that end an archive: members would be lost."""
    with open(path, "rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
        if block != bytes(tarfile.BLOCKSIZE):
            what = "is damaged" if block else "is cut off"
            raise ValueError(f"{path} {what} at byte {offset}, where no member and no end is: pack it again")
        while block := file.read(CHUNK_BYTES):
            if block.strip(b"\0"):
                raise ValueError(f"{path} goes on behind its end at byte {offset}: pack each part into its own file")


def _label(content: bytes, kind: str, name: str) -> int | None:
    try:
        if kind == "cls":
            return _number(content.decode())
        label = json.loads(content)
        label = label.get("label", label.get("cls"))
        return None if label is None else _number(label)
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise ValueError(f"{name} holds no class number: write one, or leave the file out") from None


def _number(label: int | str) -> int:
    if type(label) not in (int, str) or not 0 <= int(label) <= MAXIMUM_CLASS:
        raise ValueError("no class number")
    return int(label)


def _classes(labels: tuple, paths: list[str], names: tuple) -> tuple[torch.Tensor, list[str] | None]:
    """Classes of all samples [N], and their names where they come from folders."""
    if any(label is not None for label in labels):
        for label, path, name in zip(labels, paths, names, strict=True):
            if label is None:
                raise ValueError(f"{path}: {name} has no class (.cls or .json), others have: give every image one")
        return torch.tensor(labels), None
    folders = [str(PurePosixPath(name).parent) for name in names]
    known = sorted(set(folders))
    if "." in known[:-1]:
        stray = folders.index(".")
        raise ValueError(f"{paths[stray]}: {names[stray]} lies beside the class folders: put it into one, or remove it")
    class_names = ["all"] if known == ["."] else known
    numbers = {folder: number for number, folder in enumerate(known)}
    return torch.tensor([numbers[folder] for folder in folders]), class_names

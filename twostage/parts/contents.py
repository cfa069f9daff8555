"""Files that settings name by path: they count by what they hold, so that a changed file is new work.

- A file (weights, a checkpoint, statistics) counts by its sha256, wherever it lies.
- The folder of an autoencoder counts by names and sha256 of its files, a latent cache by the sha256 of its manifest,
  which has that of every shard; wherever they lie.
- A data set, which is too large to be read for that (a folder of images or one that `datasets` reads, parquet and tar
  files, also as `file://`), counts by path, and by name and size of each file.

What is not here (a hub id, or the address of shards) counts by its name alone.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any

from eqvae.autoencoders.places import PACKAGED
from eqvae.data.remote import expand_ranges, local_path
from eqvae.files import sha256_of_file
from eqvae.latents.manifest import MANIFEST

PLACE, OF_IMAGES = "path", "image_size"  # a key that other classes have, too, and the one beside it of a data set
DATA_FOLDERS, DATA_FILES = ("root", "data_dir", PLACE), ("files", "data_files")  # keys of data sets
FOLDERS = ("autoencoder", "source", "cache", "validation_cache", "features")  # keys of folders and files that are read
LABELS = "labels"  # of a folder or file, or of a rule
NOT_READ = ("trainer",)  # what a trainer names, it writes


def with_contents(settings: Any, key: str = "") -> Any:
    """The same settings, with what they name by path in its place; all else as it is."""
    if isinstance(settings, dict):
        keys = {name: "" if name == PLACE and OF_IMAGES not in settings else str(name) for name in settings}
        return {
            name: value if name in NOT_READ else with_contents(value, keys[name]) for name, value in settings.items()
        }
    if isinstance(settings, list):
        return [with_contents(value, key) for value in settings]
    found = _content(settings, key) if isinstance(settings, str) and settings else None
    return settings if found is None else found


def _content(name: str, key: str) -> dict[str, Any] | None:
    """What a text names under this key; None where it is no path, or nothing is there."""
    if key in DATA_FILES or (key in DATA_FOLDERS and os.path.isdir(name)):
        listed = _listed(name, key in DATA_FOLDERS)
        return None if listed is None else {"data": name, "listing": listed}
    named = key in FOLDERS or (key == LABELS and "/" in name)  # "balanced" is no path, whatever lies there
    if os.path.isfile(name) and (named or "/" in name or os.path.splitext(name)[1]):
        return {"sha256": _sha256(name)}
    if named:
        folder = name if os.path.isdir(name) else str(PACKAGED / name)
        return _folder(folder) if os.path.isdir(folder) else None
    return None


def _folder(folder: str) -> dict[str, Any]:
    manifest = os.path.join(folder, MANIFEST)
    if os.path.isfile(manifest):
        return {"manifest": _sha256(manifest)}
    with os.scandir(folder) as entries:
        return {"folder": {entry.name: _sha256(entry.path) for entry in entries if entry.is_file()}}


def _sha256(path: str) -> str:
    about = os.stat(path)
    return _hashed(os.path.realpath(path), about.st_size, about.st_mtime_ns)


@cache
def _hashed(path: str, size: int, modified: int) -> str:
    """A plan asks for the same files for every arm and seed; a file that was changed meanwhile is read again."""
    return sha256_of_file(Path(path))


@cache
def _listed(name: str, is_folder: bool) -> str | None:
    """sha256 over name and size of each file of a data set; None where there is none."""
    digest, count = hashlib.sha256(), 0
    try:
        found = _walk(name, "", set()) if is_folder else ((path, path) for path in files_of(name))
        for shown, path in sorted(found):
            count += 1
            digest.update(f"{shown}/{os.path.getsize(path)}\n".encode(errors="surrogateescape"))
    except OSError as error:
        raise ValueError(f"data set {name} cannot be listed: {error.filename}: {error.strerror}") from None
    return digest.hexdigest() if count else None


def files_of(pattern: str) -> list[str]:
    """The files here that a path, a glob, a range or a `file://` address of a data set names."""
    names = [os.path.expanduser(local_path(name)) for name in expand_ranges(pattern)]
    return [path for name in names for path in ([name] if os.path.isfile(name) else glob(name, recursive=True))]


def forget_listings() -> None:
    """List data sets anew: a plan lists each of them once, for a million files take seconds."""
    _listed.cache_clear()


def _walk(folder: str, below: str, visited: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """(path below the root, path) of all files, of linked folders, too; hidden ones are no data."""
    if not os.path.isdir(folder):
        return
    about = os.stat(folder)
    if (about.st_dev, about.st_ino) in visited:
        return
    visited.add((about.st_dev, about.st_ino))
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not name.startswith("."):
            yield from [(below + name, path)] if os.path.isfile(path) else _walk(path, f"{below}{name}/", visited)

"""Writes rows into shards, in index order, and goes on where it was stopped; what the rows are, a `RowFormat` says."""

import errno
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from eqvae.files import remove_leftovers, sha256_of_file, write_atomically
from eqvae.hashes import write_json
from eqvae.latents.manifest import (
    FORMAT_VERSION,
    JOURNALS,
    MANIFEST,
    read_journal,
    read_listing,
    rows_of_shard,
    shard_name,
    shard_number,
)
from eqvae.locks import Lock
from eqvae.precision import ENCODING_PRECISIONS, encoding

SHARD_ROWS = 10_000
FLIP = "_flip"  # behind the names of what is of the flipped images


def shards_of_process(num_images: int, shard_rows: int, rank: int, num_replicas: int) -> range:
    """The consecutive shards that one of several processes writes; all together every shard once."""
    num_shards = -(-num_images // shard_rows)
    return range(num_shards * rank // num_replicas, num_shards * (rank + 1) // num_replicas)


class CachePlan(NamedTuple):
    """What `predict` writes, as far as whoever reads the images must know.

    Args:
        shard_rows: images per shard, by which several processes divide them.
        validation: whether validation images have a cache of their own.
    """

    shard_rows: int = SHARD_ROWS
    validation: bool = False


class RowFormat(ABC):
    """All in which caches of latents, of tokens and of features differ.

    Args:
        encoding_precision: "float32" or "bfloat16" of the encoder, see `eqvae.precision.encoding`; part of what the
            cache is known by, so that no cache mixes two.
        tile_size: side in pixels of the tiles that images are encoded in; None: whole. Part of it, too.

    Attributes:
        tiles: what the tiles add to the identity.
        what: is written, for people.
        shard_rows: images per shard.
        kept: what of a batch is kept as it is, beside `index`.

    Raises:
        ValueError: for an unknown precision.
    """

    what: ClassVar[str] = "latent cache"
    shard_rows: ClassVar[int] = SHARD_ROWS
    kept: ClassVar[tuple[str, ...]] = ("label",)

    def __init__(self, encoding_precision: str, tile_size: int | None = None):
        if encoding_precision not in ENCODING_PRECISIONS:
            known = ", ".join(ENCODING_PRECISIONS)
            raise ValueError(f"encoding_precision {encoding_precision!r} is unknown: use one of {known}")
        self.encoding_precision = encoding_precision
        self.tiles = {} if tile_size is None else {"tile_size": tile_size}

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides on the rows, beside the images."""

    @abstractmethod
    def encode(self, images: Tensor, index: Tensor, suffix: str) -> dict[str, Tensor]:
        """Rows [B, ...] of images [B, 3, H, W] with their places in the source [B].

        Args:
            suffix: "", or `FLIP` where the images are the flipped ones.
        """

    def store(self, rows: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Rows of a shard as they are stored, and what the journal says of them beside name, count and hash."""
        return rows, {}

    def contents(self, folder: Path, shards: list[dict[str, Any]]) -> dict[str, Any]:
        """What the manifest of the cache in a folder says beside its identity and the finished shards."""
        return {}


class ShardWriter:
    """Collects rows in index order into shards of `shard_rows`.

    A shard holds them, those of the flipped images, and `index` [N].

    Each shard is written whole, with its sha256 in the journal; the manifest comes last. Shards that a stopped run left
    are read through, and kept if they are of the same cache and as they were written; lost and damaged ones are named
    and written again, they alone.

    Several processes write one cache, each its `shards_of_process`; the files are those of one process, byte for byte.

    Args:
        folder: of the cache.
        rows: what is written.
        dataset: what the data module says of its images (fingerprint, num_images, num_classes, class_names, ...).
        shard_rows: images per shard; None takes the format's.
        rank, num_replicas: this process and how many there are. Rank 0 opens the folder first.

    Raises:
        ValueError: if another process writes there, or the folder holds another cache.
    """

    def __init__(
        self,
        folder: Path,
        rows: RowFormat,
        dataset: dict[str, Any],
        shard_rows: int | None = None,
        rank: int = 0,
        num_replicas: int = 1,
    ):
        self.folder, self.format, self.dataset, self.rank = Path(folder), rows, dataset, rank
        self.shard_rows = shard_rows or rows.shard_rows
        about = {"shard_rows": self.shard_rows, "dataset": dataset}
        self._identity = {"format_version": FORMAT_VERSION} | rows.identity() | about
        self._numbers = shards_of_process(self.dataset["num_images"], self.shard_rows, rank, num_replicas)
        suffix = f"-{rank}" if rank else ""
        self._journal = self.folder / f".journal{suffix}.json"
        self._lock = Lock(self.folder / f".writer{suffix}.lock", f"{rows.what} {folder}").acquire()
        try:
            if rank == 0:
                remove_leftovers(self.folder)
            finished = self._recover()
            self._others = {number: entry for number, entry in finished.items() if number not in self._numbers}
            self._finished = {number: finished[number] for number in self._numbers if number in finished}
            self._finished = {number: entry for number, entry in self._finished.items() if self._is_sound(entry)}
            self._write_journal()
        except BaseException:
            self._lock.release()
            raise
        self._waiting: dict[int, list[dict[str, Tensor]]] = {}  # rows of shards that are not full
        self._next = 0  # the first index that has not come

    @property
    def rows(self) -> range:
        """Indices of the images that this process writes."""
        stop = min(self._numbers.stop * self.shard_rows, self.dataset["num_images"])
        return range(min(self._numbers.start * self.shard_rows, stop), stop)

    @property
    def num_written(self) -> int:
        """Images of this process in finished shards."""
        return sum(entry["count"] for entry in self._finished.values())

    def missing(self, index: Tensor) -> Tensor:
        """[B] bool: which images this process still has to write."""
        wanted = [number for number in self._numbers if number not in self._finished]
        return torch.isin(index // self.shard_rows, torch.tensor(wanted, device=index.device)) & (index >= self._next)

    def _recover(self) -> dict[int, dict[str, Any]]:
        """Entries of finished shards of earlier runs of the same cache by number, whatever process wrote them.

        A damaged journal is replaced by the manifest, where there is one.
        """
        finished: dict[int, dict[str, Any]] = {}
        journals = sorted(self.folder.glob(JOURNALS))
        try:
            records = [read_journal(journal) for journal in journals]
        except ValueError:
            if not (self.folder / MANIFEST).is_file():
                raise
            records = []
        if not records and (self.folder / MANIFEST).is_file():
            manifest = read_listing(self.folder)
            records = [(manifest, manifest["shards"])]
        if not records and any(self.folder.glob("shard-*")):
            raise ValueError(f"{self.folder} holds another cache: its shards are in no journal; choose another folder")
        for identity, shards in records:
            if changed := _changes(identity, self._identity):
                raise ValueError(
                    f"{self.folder} holds a cache with another {', '.join(changed)}: remove it or choose another folder"
                )
            for entry in shards:
                known = finished.setdefault(shard_number(entry["file"]), entry)
                if known["sha256"] != entry["sha256"] and not self._is_as_written(known):  # written again by another
                    finished[shard_number(entry["file"])] = entry
        return finished

    def _is_as_written(self, entry: dict[str, Any]) -> bool:
        path = self.folder / entry["file"]
        return path.is_file() and sha256_of_file(path) == entry["sha256"]

    def _is_sound(self, entry: dict[str, Any]) -> bool:
        """Whether a shard is as it was written; what is wrong is said."""
        if self._is_as_written(entry):
            return True
        path = self.folder / entry["file"]
        print(f"{path} is {'damaged' if path.is_file() else 'missing'}: it is written again")
        return False

    @torch.no_grad()
    def add(self, batch: dict[str, Tensor]) -> None:
        """Encode the images of a batch and their flips, unless finished shards have them. They come in index order."""
        index = batch["index"]
        keep = self.missing(index)
        if not keep.any():
            return
        # The whole batch, also where only part of it is kept: its size decides the last bits.
        images = batch["image"]
        with encoding(self.format.encoding_precision, images.device):
            rows = self.format.encode(images, index, "")
            flipped = self.format.encode(images.flip(-1), index, FLIP)
        rows |= {name + FLIP: value for name, value in flipped.items()}
        rows |= {name: batch[name] for name in (*self.format.kept, "index")}
        self._collect({name: value[keep].cpu() for name, value in rows.items()})

    def _collect(self, rows: dict[str, Tensor]) -> None:
        """Take rows that are `missing`, in index order, and write the shards that are full."""
        numbers = rows["index"] // self.shard_rows
        for number in numbers.unique().tolist():
            mask = numbers == number
            waiting = self._waiting.setdefault(number, [])
            waiting.append({name: value[mask] for name, value in rows.items()})
            if sum(len(part["index"]) for part in waiting) == self._rows_of(number):
                self._write_shard(number)
        self._next = int(rows["index"].max()) + 1

    def _rows_of(self, number: int) -> int:
        return rows_of_shard(number, self.shard_rows, self.dataset["num_images"])

    def _write_shard(self, number: int) -> None:
        parts = self._waiting.pop(number)
        rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        stored, about = self.format.store(rows)
        content, name = save({key: value.contiguous() for key, value in stored.items()}), shard_name(number)
        entry = {"file": name, "count": len(rows["index"]), "sha256": hashlib.sha256(content).hexdigest()}
        self._write(self.folder / name, lambda path: write_atomically(path, content), len(content))
        self._finished[number] = entry | about
        self._write_journal()

    def _write_journal(self) -> None:
        """What this process has finished; the first one's has what it found of others, too, who begin after it."""
        known = self._finished if self.rank else self._others | self._finished
        content = {"identity": self._identity, "shards": [known[number] for number in sorted(known)]}
        self._write(self._journal, lambda path: write_json(path, content))

    def _write(self, path: Path, write: Callable[[Path], None], num_bytes: int | None = None) -> None:
        try:
            write(path)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            size = "" if num_bytes is None else f" ({num_bytes} bytes)"
            raise ValueError(
                f"no space for {path}{size}: make room and run predict again, it goes on from here"
            ) from None

    def finish(self, wait: Callable[[], object] = lambda: None) -> None:
        """Write, as rank 0, the manifest; only now is the folder a cache.

        Args:
            wait: for all other processes.

        Raises:
            ValueError: if images are missing, or a shard was lost meanwhile.
        """
        if self.num_written != len(self.rows):
            written = f"{self.num_written} of {len(self.rows)} images"
            raise ValueError(f"{self.format.what} {self.folder}: cached {written}: run predict again")
        wait()
        if self.rank == 0:
            self._write_manifest()
        self.release()

    def release(self) -> None:
        """Let others write; of a cache that is not finished the shards stay, and whoever writes next goes on."""
        self._lock.release()

    def _write_manifest(self) -> None:
        finished = self._recover()
        numbers = shards_of_process(self.dataset["num_images"], self.shard_rows, 0, 1)
        for number in numbers:
            path = self.folder / shard_name(number)
            if number not in finished or not path.is_file():
                raise ValueError(f"{path} is missing: run predict again, it is written again")
        shards = [finished[number] for number in numbers]
        content = self._identity | {"shards": shards} | self.format.contents(self.folder, shards)
        self._write(self.folder / MANIFEST, lambda path: write_json(path, content))
        self._finished = finished
        self._write_journal()
        for journal in self.folder.glob(".journal-*.json"):
            journal.unlink()


def _changes(recorded: dict, wanted: dict) -> list[str]:
    """What differs between two caches' identities, images by their parts."""
    known = set(recorded) & {"tile_size"}  # a manifest has entries that are no identity
    changed = [
        key for key in (*wanted, *(known - set(wanted))) if key != "dataset" and recorded.get(key) != wanted.get(key)
    ]
    if recorded.get("dataset") != wanted["dataset"]:
        changed.append(f"dataset ({', '.join(dataset_changes(recorded.get('dataset', {}), wanted['dataset']))})")
    return changed


def dataset_changes(recorded: dict, wanted: dict) -> list[str]:
    """Names of what changed in a data module's description; `fingerprint` only where nothing else explains it."""
    changed = [key for key in wanted if key != "fingerprint" and recorded.get(key) != wanted[key]]
    return changed or [key for key in ("fingerprint",) if recorded.get(key) != wanted.get(key)]

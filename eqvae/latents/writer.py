"""Writes a latent cache, shard by shard, and continues where it was stopped."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from eqvae.autoencoders import KLAutoencoder
from eqvae.autoencoders.places import describe_place
from eqvae.files import remove_leftovers, sha256_of_file, write_atomically
from eqvae.latents.spec import LatentSpec
from eqvae.locks import OwnedLock
from eqvae.randomness import keyed_normal

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SHARD_ROWS = 10_000
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
CONTENTS = {"moments": "mean", "sample": "sample"}  # and the tensor that tells the shape


def shards_of_process(num_images: int, shard_rows: int, rank: int, num_replicas: int) -> range:
    """The consecutive shards that one of several processes writes; all together every shard once."""
    num_shards = -(-num_images // shard_rows)
    return range(num_shards * rank // num_replicas, num_shards * (rank + 1) // num_replicas)


class LatentCacheWriter:
    """Collects latents in index order into shards of at most `shard_rows` pictures.

    A shard holds `mean`, `log_std`, `mean_flip`, `log_std_flip` [N, C, h, w], or `sample`, `sample_flip`, and `label`,
    `index` [N]. Each is written whole with its sha256; the manifest comes last. Shards that a stopped run left are
    kept if they are of the same autoencoder, pictures and settings, and their pictures are not encoded again.

    Several processes write one cache, each its `shards_of_process`; the files are those of one process, byte for byte.

    Args:
        folder: of the cache.
        autoencoder: that encodes.
        dataset: what the data module says of its pictures (fingerprint, num_images, num_classes, class_names, ...).
        dtype: of the latents; the largest relative rounding error is recorded in the manifest.
        shard_rows: pictures per shard.
        content: "moments", of which every read draws a fresh sample, or "sample": one fixed posterior sample of each
            picture and of its flip, half as large.
        rank, num_replicas: this process and how many there are. Rank 0 opens the folder first.

    Raises:
        ValueError: if another process writes there, or the folder holds another cache.
    """

    dtypes, contents = DTYPES, CONTENTS

    def __init__(
        self,
        folder: Path,
        autoencoder: KLAutoencoder,
        dataset: dict,
        dtype: str = "float16",
        shard_rows: int = SHARD_ROWS,
        content: str = "moments",
        rank: int = 0,
        num_replicas: int = 1,
    ):
        if dtype not in self.dtypes:
            raise ValueError(f"cache dtype {dtype!r} is unknown: use one of {', '.join(self.dtypes)}")
        if content not in self.contents:
            raise ValueError(f"cache content {content!r} is unknown: use one of {', '.join(self.contents)}")
        self.folder, self.dataset, self.dtype, self.shard_rows = Path(folder), dataset, dtype, shard_rows
        self.autoencoder, self.content, self.rank = autoencoder, content, rank
        self._numbers = shards_of_process(dataset["num_images"], shard_rows, rank, num_replicas)
        self.folder.mkdir(parents=True, exist_ok=True)
        suffix = f"-{rank}" if rank else ""
        self._journal = self.folder / f".journal{suffix}.json"
        self._lock = OwnedLock(self.folder / f".writer{suffix}.lock", f"latent cache {self.folder}").acquire()
        if rank == 0:
            remove_leftovers(self.folder)
        self._identity = {
            "format_version": FORMAT_VERSION,
            "autoencoder_fingerprint": autoencoder.fingerprint(),
            "moments": content == "moments",
            "dtype": dtype,
            "shard_rows": shard_rows,
            "dataset": dataset,
        }
        finished = self._recover()
        self.shards: list[dict] = []  # of this process, finished
        for number in self._numbers:
            if number not in finished:
                break
            self.shards.append(finished[number])
        self._write_journal()
        self._rows: list[dict[str, Tensor]] = []  # encoded, waiting for their shard to be full

    @property
    def rows(self) -> range:
        """Indices of the pictures that this process writes."""
        stop = min(self._numbers.stop * self.shard_rows, self.dataset["num_images"])
        return range(min(self._numbers.start * self.shard_rows, stop), stop)

    @property
    def num_written(self) -> int:
        """Pictures of this process in finished shards; they need no encoding."""
        return sum(shard["count"] for shard in self.shards)

    @property
    def _num_waiting(self) -> int:
        return sum(len(rows["index"]) for rows in self._rows)

    def _recover(self) -> dict[int, dict]:
        """Finished shards of earlier runs of the same cache by number, whatever process wrote them."""
        finished = {}
        for journal in sorted(self.folder.glob(".journal*.json")):
            recorded = json.loads(journal.read_text())
            changed = _changes(recorded["identity"], self._identity)
            if changed:
                self._lock.release()
                raise ValueError(
                    f"{self.folder} holds a cache with another {', '.join(changed)}: remove it or choose another folder"
                )
            finished |= {int(shard["file"][len("shard-") :].split(".")[0]): shard for shard in recorded["shards"]}
        return finished

    def _write_journal(self) -> None:
        content = {"identity": self._identity, "shards": self.shards}
        self._write(self._journal, json.dumps(content).encode())

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_atomically(path, content)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ValueError(
                f"no space for {path} ({len(content)} bytes): make room and run predict again, it goes on from here"
            ) from None

    @torch.no_grad()
    def add(self, batch: dict[str, Tensor]) -> None:
        """Encode a batch and its flip, unless a finished shard has them. Batches come in index order."""
        index = batch["index"]
        keep = (index >= self.rows.start + self.num_written + self._num_waiting) & (index < self.rows.stop)
        if not keep.any():
            return
        # The whole batch, also where a process keeps only part of it: its size decides the last bits.
        rows = {name: value[keep].cpu() for name, value in self._encode(batch["image"], index).items()}
        self._rows.append(rows | {"label": batch["label"][keep].cpu(), "index": index[keep].cpu()})
        while self._num_waiting >= self.shard_rows:
            self._write_shard(self.shard_rows)

    def _encode(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """What is kept of pictures [B, 3, H, W] and their flips."""
        posterior, flipped = self.autoencoder.encode(images), self.autoencoder.encode(images.flip(-1))
        moments = {
            "mean": posterior.mean,
            "log_std": 0.5 * posterior.logvar,
            "mean_flip": flipped.mean,
            "log_std_flip": 0.5 * flipped.logvar,
        }
        moments = {name: value.float() for name, value in moments.items()}
        return moments if self.content == "moments" else self._sample(moments, index)

    def _sample(self, moments: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        """One sample of each posterior, keyed by the picture."""
        samples = {}
        for suffix in ("", "_flip"):
            mean, log_std = moments[f"mean{suffix}"], moments[f"log_std{suffix}"]
            noise = keyed_normal(index.to(mean.device), tuple(mean.shape[1:]), seed=0, stream=f"cached{suffix}")
            samples[f"sample{suffix}"] = mean + log_std.exp() * noise
        return samples

    def _store(self, rows: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict]:
        """Rows as they are stored, and what the manifest says of their rounding."""
        dtype, name = self.dtypes[self.dtype], self.contents[self.content]
        stored = {name: value.to(dtype) if value.is_floating_point() else value for name, value in rows.items()}
        rounding = (stored[name].float() - rows[name]).norm() / rows[name].norm().clamp_min(1e-12)
        return stored, {"rounding_error": float(rounding)}

    def _write_shard(self, count: int) -> None:
        rows = {name: torch.cat([part[name] for part in self._rows]) for name in self._rows[0]}
        self._rows = [{name: value[count:] for name, value in rows.items()}]
        stored, rounding = self._store({name: value[:count].contiguous() for name, value in rows.items()})
        path = self.folder / f"shard-{self._numbers.start + len(self.shards):05d}.safetensors"
        self._write(path, save(stored))
        self.shards.append({"file": path.name, "count": count, "sha256": sha256_of_file(path)} | rounding)
        self._write_journal()

    def finish(self, wait: Callable[[], object] = lambda: None) -> None:
        """Write the last shard and, as rank 0, the manifest; only now is the folder a cache.

        Args:
            wait: for all other processes.

        Raises:
            ValueError: if pictures are missing.
        """
        if self._num_waiting:
            self._write_shard(self._num_waiting)
        if self.num_written != len(self.rows):
            raise ValueError(f"cached {self.num_written} of {len(self.rows)} pictures: run predict again")
        wait()
        if self.rank == 0:
            self._write_manifest()
        self._lock.release()

    def _contents(self) -> dict:
        """What the manifest says of the finished shards."""
        return {
            "latents": LatentSpec.of(self.autoencoder, self._shape()).to_dict(),
            "flips": True,
            "shards": self.shards,
            "rounding_error": max(shard["rounding_error"] for shard in self.shards),
        }

    def _write_manifest(self) -> None:
        finished = self._recover()
        self.shards = [finished[number] for number in sorted(finished)]
        manifest = self._identity | self._contents()
        manifest["autoencoder"] = describe_place(self.autoencoder.source, self.folder)
        self._write(self.folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        self._write_journal()
        for journal in self.folder.glob(".journal-*.json"):
            journal.unlink()

    def _shape(self) -> tuple[int, ...]:
        with safe_open(self.folder / self.shards[0]["file"], "pt") as shard:
            return tuple(shard.get_slice(self.contents[self.content]).get_shape()[1:])


def _changes(recorded: dict, wanted: dict) -> list[str]:
    """What differs between two caches' identities, pictures by their parts."""
    changed = [key for key in wanted if key != "dataset" and recorded.get(key) != wanted[key]]
    if recorded.get("dataset") != wanted["dataset"]:
        changed.append(f"dataset ({', '.join(dataset_changes(recorded.get('dataset', {}), wanted['dataset']))})")
    return changed


def dataset_changes(recorded: dict, wanted: dict) -> list[str]:
    """Names of what changed in a data module's description; `fingerprint` only where nothing else explains it."""
    changed = [key for key in wanted if key != "fingerprint" and recorded.get(key) != wanted[key]]
    return changed or [key for key in ("fingerprint",) if recorded.get(key) != wanted.get(key)]

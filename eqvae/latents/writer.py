"""Writes a latent cache, shard by shard, and continues where it was stopped."""

import json
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from eqvae.autoencoders import KLAutoencoder
from eqvae.latents.spec import LatentSpec
from eqvae.training.files import remove_leftovers, sha256_of_file, write_atomically

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SHARD_ROWS = 10_000
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class LatentCacheWriter:
    """Collects posterior moments in index order into shards of at most `shard_rows` pictures.

    A shard holds `mean`, `log_std`, `mean_flip`, `log_std_flip` [N, C, h, w] and `label`, `index` [N]. Each is written
    whole with its sha256; the manifest comes last. Shards that a stopped run left are kept if they are of the same
    autoencoder, pictures and settings, and their pictures are not encoded again.

    Args:
        folder: of the cache.
        autoencoder: that encodes.
        dataset: what the data module says of its pictures (fingerprint, num_images, num_classes, class_names).
        dtype: of the moments; the largest relative rounding error of the means is recorded in the manifest.
        shard_rows: pictures per shard.

    Raises:
        ValueError: if another process writes there, or the folder holds another cache.
    """

    dtypes = DTYPES

    def __init__(
        self,
        folder: Path,
        autoencoder: KLAutoencoder,
        dataset: dict,
        dtype: str = "float16",
        shard_rows: int = SHARD_ROWS,
    ):
        if dtype not in self.dtypes:
            raise ValueError(f"cache dtype {dtype!r} is unknown: use one of {', '.join(self.dtypes)}")
        self.folder, self.dataset, self.dtype, self.shard_rows = Path(folder), dataset, dtype, shard_rows
        self.autoencoder = autoencoder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".writer.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"another process is writing the latent cache {self.folder}: wait for it") from None
        remove_leftovers(self.folder)
        self._identity = {
            "format_version": FORMAT_VERSION,
            "autoencoder_fingerprint": autoencoder.fingerprint(),
            "dtype": dtype,
            "shard_rows": shard_rows,
            "dataset": dataset,
        }
        self.shards = self._recover()
        self._rows: list[dict[str, Tensor]] = []  # encoded, waiting for their shard to be full

    @property
    def num_written(self) -> int:
        """Pictures in finished shards; batches below that index need no encoding."""
        return sum(shard["count"] for shard in self.shards)

    @property
    def _num_waiting(self) -> int:
        return sum(len(rows["index"]) for rows in self._rows)

    def _recover(self) -> list[dict]:
        """Finished shards of an earlier run of the same cache."""
        journal = self.folder / ".journal.json"
        if not journal.is_file():
            write_atomically(journal, json.dumps({"identity": self._identity, "shards": []}).encode())
            return []
        recorded = json.loads(journal.read_text())
        changed = [key for key, value in self._identity.items() if recorded["identity"].get(key) != value]
        if changed:
            self._lock.release()
            raise ValueError(
                f"{self.folder} holds a cache with another {', '.join(changed)}: remove it or choose another folder"
            )
        return recorded["shards"]

    @torch.no_grad()
    def add(self, batch: dict[str, Tensor]) -> None:
        """Encode a batch and its flip, unless a finished shard has them. Batches come in index order."""
        images, index = batch["image"], batch["index"]
        keep = index >= self.num_written + self._num_waiting
        if not keep.any():
            return
        # The whole batch, also where a resumed run keeps only part of it: its size decides the last bits.
        rows = {name: value[keep].cpu() for name, value in self._encode(images).items()}
        self._rows.append(rows | {"label": batch["label"][keep].cpu(), "index": index[keep].cpu()})
        while self._num_waiting >= self.shard_rows:
            self._write_shard(self.shard_rows)

    def _encode(self, images: Tensor) -> dict[str, Tensor]:
        """What is kept of pictures [B, 3, H, W] and their flips."""
        posterior, flipped = self.autoencoder.encode(images), self.autoencoder.encode(images.flip(-1))
        moments = {
            "mean": posterior.mean,
            "log_std": 0.5 * posterior.logvar,
            "mean_flip": flipped.mean,
            "log_std_flip": 0.5 * flipped.logvar,
        }
        return {name: value.float() for name, value in moments.items()}

    def _store(self, rows: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict]:
        """Rows as they are stored, and what the manifest says of their rounding."""
        dtype = self.dtypes[self.dtype]
        stored = {name: value.to(dtype) if value.is_floating_point() else value for name, value in rows.items()}
        rounding = (stored["mean"].float() - rows["mean"]).norm() / rows["mean"].norm().clamp_min(1e-12)
        return stored, {"rounding_error": float(rounding)}

    def _write_shard(self, count: int) -> None:
        rows = {name: torch.cat([part[name] for part in self._rows]) for name in self._rows[0]}
        self._rows = [{name: value[count:] for name, value in rows.items()}]
        stored, rounding = self._store({name: value[:count].contiguous() for name, value in rows.items()})
        path = self.folder / f"shard-{len(self.shards):05d}.safetensors"
        write_atomically(path, save(stored))
        self.shards.append({"file": path.name, "count": count, "sha256": sha256_of_file(path)} | rounding)
        journal = {"identity": self._identity, "shards": self.shards}
        write_atomically(self.folder / ".journal.json", json.dumps(journal).encode())

    def finish(self) -> None:
        """Write the last shard and the manifest; only now is the folder a cache.

        Raises:
            ValueError: if pictures are missing.
        """
        if self._num_waiting:
            self._write_shard(self._num_waiting)
        if self.num_written != self.dataset["num_images"]:
            raise ValueError(f"cached {self.num_written} of {self.dataset['num_images']} pictures: run predict again")
        manifest = self._identity | self._contents()
        write_atomically(self.folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        self._lock.release()

    def _contents(self) -> dict:
        """What the manifest says of the finished shards."""
        return {
            "latents": LatentSpec.of(self.autoencoder, self._shape("mean")).to_dict(),
            "moments": True,
            "flips": True,
            "shards": self.shards,
            "rounding_error": max(shard["rounding_error"] for shard in self.shards),
        }

    def _shape(self, name: str) -> tuple[int, ...]:
        """Of one row of a tensor in the shards."""
        with safe_open(self.folder / self.shards[0]["file"], "pt") as shard:
            return tuple(shard.get_slice(name).get_shape()[1:])

"""Features of pictures and of their flips on disk, beside a latent cache of the same pictures, row for row."""

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from eqvae.files import remove_leftovers, sha256_of_file, write_atomically
from eqvae.latents.reader import LatentCache, ShardedRows, read_manifest
from eqvae.latents.writer import DTYPES, FORMAT_VERSION, MANIFEST, dataset_changes
from eqvae.locks import OwnedLock

FEATURE_SHARD_ROWS = 1000  # 0.8 GB of 256 tokens of 768 channels, with flips, in float16


class FeatureCacheWriter:
    """Collects features in index order; shards hold `features`, `features_flip` [N, T, z] and `index` [N].

    The manifest, written last, has the sha256 of every shard; shards that a stopped run left are not computed again.

    Args:
        folder: of the cache.
        encoder: what identifies the features: name, fingerprint, grid, width.
        dataset: what the data module says of its pictures.
        dtype: "float16", "bfloat16" or "float32".
        shard_rows: pictures per shard.

    Raises:
        ValueError: if another process writes there, or the folder holds other features.
    """

    def __init__(
        self, folder: Path, encoder: dict, dataset: dict, dtype: str = "float16", shard_rows: int = FEATURE_SHARD_ROWS
    ):
        if dtype not in DTYPES:
            raise ValueError(f"cache dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
        self.folder, self.dtype, self.shard_rows, self.dataset = Path(folder), dtype, shard_rows, dataset
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = OwnedLock(self.folder / ".writer.lock", f"feature cache {self.folder}").acquire()
        remove_leftovers(self.folder)
        self._identity = {
            "format_version": FORMAT_VERSION,
            "encoder": encoder,
            "dtype": dtype,
            "shard_rows": shard_rows,
            "dataset": dataset,
        }
        self.shards = self._recover()
        self._rows: list[dict[str, Tensor]] = []

    def _recover(self) -> list[dict]:
        journal = self.folder / ".journal.json"
        if not journal.is_file():
            if any(self.folder.glob("shard-*")):
                self._lock.release()
                raise ValueError(f"{self.folder} holds another cache: choose a folder for the features alone")
            return []
        recorded = json.loads(journal.read_text())
        changed = [key for key, value in self._identity.items() if recorded["identity"].get(key) != value]
        if changed:
            self._lock.release()
            raise ValueError(f"{self.folder} holds features of another {', '.join(changed)}: choose another folder")
        return recorded["shards"]

    @property
    def num_written(self) -> int:
        """Pictures in finished shards."""
        return sum(shard["count"] for shard in self.shards)

    def missing(self, index: Tensor) -> Tensor:
        """[B] bool: which pictures still need features."""
        return index >= self.num_written + sum(len(rows["index"]) for rows in self._rows)

    def add(self, index: Tensor, features: Tensor, flipped: Tensor) -> None:
        """Features [B, T, z] of pictures and of their flips, in index order; rows that are there are left out."""
        keep = self.missing(index)
        dtype = DTYPES[self.dtype]
        rows = {"features": features[keep].to(dtype).cpu(), "features_flip": flipped[keep].to(dtype).cpu()}
        self._rows.append(rows | {"index": index[keep].cpu()})
        while sum(len(rows["index"]) for rows in self._rows) >= self.shard_rows:
            self._write_shard()

    def _write_shard(self) -> None:
        rows = {name: torch.cat([part[name] for part in self._rows]) for name in self._rows[0]}
        self._rows = [{name: value[self.shard_rows :] for name, value in rows.items()}]
        shard = {name: value[: self.shard_rows].contiguous() for name, value in rows.items()}
        path = self.folder / f"shard-{len(self.shards):05d}.safetensors"
        write_atomically(path, save(shard))
        self.shards.append({"file": path.name, "count": len(shard["index"]), "sha256": sha256_of_file(path)})
        journal = {"identity": self._identity, "shards": self.shards}
        write_atomically(self.folder / ".journal.json", json.dumps(journal).encode())

    def finish(self) -> None:
        """Write the last shard and the manifest.

        Raises:
            ValueError: if pictures are missing.
        """
        if any(len(rows["index"]) for rows in self._rows):
            self._write_shard()
        if self.num_written != self.dataset["num_images"]:
            raise ValueError(f"features of {self.num_written} of {self.dataset['num_images']} pictures: predict again")
        manifest = self._identity | {"shards": self.shards}
        write_atomically(self.folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        self._lock.release()


class FeatureCache(ShardedRows):
    """A finished feature cache.

    Args:
        folder: of the cache.
        verify: compare every shard with its sha256 on opening.

    Raises:
        ValueError: naming the folder or shard that is missing, damaged or of something else.
    """

    def __init__(self, folder: str | Path, verify: bool = True):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        if "encoder" not in self.manifest:
            raise ValueError(f"{self.folder} is a latent cache, not one of features: give the folder of the features")
        self.encoder: dict = self.manifest["encoder"]
        shape = (self.encoder["grid"] ** 2, self.encoder["width"])
        super().__init__(self.folder, self.manifest, {"features": shape, "features_flip": shape}, verify)

    def require(self, latents: LatentCache, encoder: str, grid: int, width: int) -> None:
        """Refuse features of other pictures than the latents', or other features than wanted.

        Raises:
            ValueError: saying what differs.
        """
        wanted = {"name": encoder, "grid": grid, "width": width}
        for key, value in wanted.items():
            if self.encoder[key] != value:
                raise ValueError(
                    f"feature cache {self.folder} has encoder {key} {self.encoder[key]}, the run {value}: write another"
                )
        ours, theirs = self.manifest["dataset"], latents.manifest["dataset"]
        if ours != theirs:
            changed = ", ".join(dataset_changes(theirs, ours))
            raise ValueError(
                f"feature cache {self.folder} is of other pictures than {latents.folder} ({changed}): write it again"
            )

    def require_fingerprint(self, fingerprint: str) -> None:
        """Refuse features of an encoder with other weights, whatever its name.

        Raises:
            ValueError: with both fingerprints.
        """
        ours = self.encoder["fingerprint"]
        if ours != fingerprint:
            raise ValueError(
                f"feature cache {self.folder} is of encoder weights {ours[:12]}, the run has {fingerprint[:12]}: "
                "give those weights, or write another"
            )

    def targets(self, ids: Tensor, flipped: Tensor) -> Tensor:
        """Features [B, T, z] float32 of pictures `ids` [B], of their flips where `flipped` [B]."""
        features = self.rows(ids, "features").float()
        if flipped.any():
            features[flipped] = self.rows(ids[flipped], "features_flip").float()
        return features

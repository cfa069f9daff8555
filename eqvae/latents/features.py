"""Features of pictures and of their flips on disk, beside a latent cache of the same pictures, row for row."""

from pathlib import Path

from torch import Tensor

from eqvae.latents.manifest import FORMAT_VERSION, read_manifest
from eqvae.latents.reader import LatentCache, ShardedRows
from eqvae.latents.shards import ShardWriter, dataset_changes
from eqvae.latents.writer import DTYPES

FEATURE_SHARD_ROWS = 1000  # 0.8 GB of 256 tokens of 768 channels, with flips, in float16


class FeatureCacheWriter(ShardWriter):
    """Collects features in index order; shards hold `features`, `features_flip` [N, T, z] and `index` [N].

    How shards are kept, see `ShardWriter`.

    Args:
        folder: of the cache.
        encoder: what identifies the features: name, fingerprint, grid, width.
        dataset: what the data module says of its pictures.
        dtype: "float16", "bfloat16" or "float32".
        shard_rows: pictures per shard.
        encoding_precision: "float32" or "bfloat16" of the encoder that the features come from.

    Raises:
        ValueError: if another process writes there, or the folder holds another cache.
    """

    def __init__(
        self,
        folder: Path,
        encoder: dict,
        dataset: dict,
        dtype: str = "float16",
        shard_rows: int = FEATURE_SHARD_ROWS,
        encoding_precision: str = "float32",
    ):
        if dtype not in DTYPES:
            raise ValueError(f"cache dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
        self.dtype = dtype
        identity = {
            "format_version": FORMAT_VERSION,
            "encoder": encoder,
            "encoding_precision": encoding_precision,
            "dtype": dtype,
            "shard_rows": shard_rows,
            "dataset": dataset,
        }
        super().__init__(folder, "feature cache", identity)

    def add(self, index: Tensor, features: Tensor, flipped: Tensor) -> None:
        """Features [B, T, z] of pictures and of their flips, in index order; rows that are there are left out."""
        keep, dtype = self.missing(index), DTYPES[self.dtype]
        rows = {"features": features[keep].to(dtype), "features_flip": flipped[keep].to(dtype), "index": index[keep]}
        self.collect({name: value.cpu() for name, value in rows.items()})


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

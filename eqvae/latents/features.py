"""Features of images and of their flips on disk, beside a latent cache of the same images, row for row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from eqvae.latents.manifest import read_manifest
from eqvae.latents.reader import LatentCache, ShardedRows
from eqvae.latents.shards import RowFormat, dataset_changes
from eqvae.latents.writer import DTYPES


class FeatureRows(RowFormat):
    """`features` [N, T, z] of images.

    Args:
        encode: images [B, 3, H, W] to features [B, T, z].
        encoder: what identifies the features: name, fingerprint, grid, width.
        dtype: "float16", "bfloat16" or "float32".
        encoding_precision: as of `RowFormat`.

    Raises:
        ValueError: naming an entry that is unknown.
    """

    what, shard_rows, kept = "feature cache", 1000, ()  # 0.8 GB of 256 tokens of 768 channels, with flips, in float16

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        encoder: dict[str, Any],
        dtype: str = "float16",
        encoding_precision: str = "float32",
    ):
        if dtype not in DTYPES:
            raise ValueError(f"cache dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
        super().__init__(encoding_precision)
        self._encode, self.encoder, self.dtype = encode, encoder, dtype

    def identity(self) -> dict[str, Any]:
        return {"encoder": self.encoder, "encoding_precision": self.encoding_precision, "dtype": self.dtype}

    def encode(self, images: Tensor, index: Tensor, suffix: str) -> dict[str, Tensor]:
        return {"features": self._encode(images).to(DTYPES[self.dtype])}


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
        """Refuse features of other images than the latents', or other features than wanted.

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
                f"feature cache {self.folder} is of other images than {latents.folder} ({changed}): write it again"
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
        """Features [B, T, z] float32 of images `ids` [B], of their flips where `flipped` [B]."""
        features = self.rows(ids, "features").float()
        if flipped.any():
            features[flipped] = self.rows(ids[flipped], "features_flip").float()
        return features

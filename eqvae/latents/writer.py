"""Writes a latent cache: encodes pictures and their flips into shards."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.autoencoders.places import describe_place
from eqvae.latents.manifest import FORMAT_VERSION
from eqvae.latents.shards import ShardWriter
from eqvae.latents.spec import LatentSpec
from eqvae.precision import ENCODING_PRECISIONS, encoding
from eqvae.randomness import keyed_normal

SHARD_ROWS = 10_000
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
CONTENTS = {"moments": "mean", "sample": "sample"}  # and the tensor that tells the shape


class LatentCacheWriter(ShardWriter):
    """Collects latents in index order into shards of at most `shard_rows` pictures.

    A shard holds `mean`, `log_std`, `mean_flip`, `log_std_flip` [N, C, h, w], or `sample`, `sample_flip`, and `label`,
    `index` [N]. How shards are kept, and how several processes write one cache, see `ShardWriter`.

    Args:
        folder: of the cache.
        autoencoder: that encodes.
        dataset: what the data module says of its pictures (fingerprint, num_images, num_classes, class_names, ...).
        dtype: of the latents; the largest relative rounding error is recorded in the manifest.
        shard_rows: pictures per shard.
        content: "moments", of which every read draws a fresh sample, or "sample": one fixed posterior sample of each
            picture and of its flip, half as large.
        rank, num_replicas: this process and how many there are. Rank 0 opens the folder first.
        encoding_precision: "float32" or "bfloat16" of the encoder, see `eqvae.precision.encoding`; part of what the
            cache is known by, so that no cache mixes two.

    Raises:
        ValueError: if another process writes there, or the folder holds another cache.
    """

    dtypes, contents = DTYPES, CONTENTS

    def __init__(
        self,
        folder: Path,
        autoencoder: Autoencoder,
        dataset: dict,
        dtype: str = "float16",
        shard_rows: int = SHARD_ROWS,
        content: str = "moments",
        rank: int = 0,
        num_replicas: int = 1,
        encoding_precision: str = "float32",
    ):
        if dtype not in self.dtypes:
            raise ValueError(f"cache dtype {dtype!r} is unknown: use one of {', '.join(self.dtypes)}")
        if encoding_precision not in ENCODING_PRECISIONS:
            known = ", ".join(ENCODING_PRECISIONS)
            raise ValueError(f"encoding_precision {encoding_precision!r} is unknown: use one of {known}")
        if content not in self.contents:
            raise ValueError(f"cache content {content!r} is unknown: use one of {', '.join(self.contents)}")
        self.autoencoder, self.dtype, self.content = autoencoder, dtype, content
        self.encoding_precision = encoding_precision
        identity = {
            "format_version": FORMAT_VERSION,
            "autoencoder_fingerprint": autoencoder.fingerprint(),
            "encoding_precision": encoding_precision,
            "moments": content == "moments",
            "dtype": dtype,
            "shard_rows": shard_rows,
            "dataset": dataset,
        }
        super().__init__(folder, "latent cache", identity, rank, num_replicas)

    @torch.no_grad()
    def add(self, batch: dict[str, Tensor]) -> None:
        """Encode a batch and its flip, unless a finished shard has them. Batches come in index order."""
        keep = self.missing(batch["index"])
        if not keep.any():
            return
        # The whole batch, also where only part of it is kept: its size decides the last bits.
        with encoding(self.encoding_precision, batch["image"].device):
            rows = self._encode(batch["image"], batch["index"]) | {name: batch[name] for name in ("label", "index")}
        self.collect({name: value[keep].cpu() for name, value in rows.items()})

    def _encode(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """What is kept of pictures [B, 3, H, W] and their flips."""
        flipped = self.autoencoder.cached_rows(images.flip(-1))
        moments = self.autoencoder.cached_rows(images) | {f"{name}_flip": value for name, value in flipped.items()}
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

    def _contents(self, shards: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "latents": LatentSpec.of(self.autoencoder, self._shape(shards)).to_dict(),
            "flips": True,
            "autoencoder": describe_place(self.autoencoder.source, self.folder),
            "rounding_error": max(shard["rounding_error"] for shard in shards),
        }

    def _shape(self, shards: list[dict[str, Any]]) -> tuple[int, ...]:
        with safe_open(self.folder / shards[0]["file"], "pt") as shard:
            return tuple(shard.get_slice(self.contents[self.content]).get_shape()[1:])

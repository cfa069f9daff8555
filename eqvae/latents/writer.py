"""Rows of latent caches: posterior moments or one sample of each image and of its flip."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.autoencoders.places import describe_place
from eqvae.latents.shards import RowFormat
from eqvae.latents.spec import LatentSpec
from eqvae.randomness import keyed_normal

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
CONTENTS = {"moments": "mean", "sample": "sample"}  # and the tensor that tells the shape


class LatentRows(RowFormat):
    """`mean`, `log_std` [N, C, h, w] of the posterior, or `sample`; and `label` [N].

    Args:
        autoencoder: that encodes.
        dtype: of the latents; the largest relative rounding error is recorded in the manifest.
        content: "moments", of which every read draws a fresh sample, or "sample": one fixed posterior sample of each
            image and of its flip, half as large. Latents that have no spread are one sample either way.
        encoding_precision, tile_size: as of `RowFormat`.

    Raises:
        ValueError: naming an entry that is unknown.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        dtype: str = "float16",
        content: str = "moments",
        encoding_precision: str = "float32",
        tile_size: int | None = None,
    ):
        if dtype not in DTYPES:
            raise ValueError(f"cache dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
        super().__init__(encoding_precision, tile_size)
        if content not in CONTENTS:
            raise ValueError(f"cache content {content!r} is unknown: use one of {', '.join(CONTENTS)}")
        self.autoencoder, self.dtype = autoencoder, dtype
        self.content = content if autoencoder.draws else "sample"

    def identity(self) -> dict[str, Any]:
        return {
            "autoencoder_fingerprint": self.autoencoder.fingerprint(),
            "encoding_precision": self.encoding_precision,
            "moments": self.content == "moments",
            "dtype": self.dtype,
        } | self.tiles

    def encode(self, images: Tensor, index: Tensor, suffix: str) -> dict[str, Tensor]:
        moments = self.autoencoder.cached_rows(images)
        if self.content == "moments":
            return moments
        mean = moments["mean"]
        if not self.autoencoder.draws:
            return {"sample": mean}
        noise = keyed_normal(index.to(mean.device), tuple(mean.shape[1:]), seed=0, stream=f"cached{suffix}")
        return {"sample": mean + moments["log_std"].exp() * noise}

    def store(self, rows: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Rows as they are stored, and how they were rounded."""
        dtype, name = DTYPES[self.dtype], CONTENTS[self.content]
        stored = {name: value.to(dtype) if value.is_floating_point() else value for name, value in rows.items()}
        rounding = (stored[name].float() - rows[name]).norm() / rows[name].norm().clamp_min(1e-12)
        return stored, {"rounding_error": float(rounding)}

    def contents(self, folder: Path, shards: list[dict[str, Any]]) -> dict[str, Any]:
        shape = shape_of(folder / shards[0]["file"], CONTENTS[self.content])
        return {
            "latents": LatentSpec.of(self.autoencoder, shape).to_dict(),
            "flips": True,
            "autoencoder": describe_place(self.autoencoder.source, folder),
            "rounding_error": max(shard["rounding_error"] for shard in shards),
        }


def shape_of(path: Path, name: str) -> tuple[int, ...]:
    """Shape of one row of a shard's tensor."""
    with safe_open(path, "pt") as shard:
        return tuple(shard.get_slice(name).get_shape()[1:])

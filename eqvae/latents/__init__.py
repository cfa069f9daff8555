"""Latents on disk: what they are (`spec`), how a cache is written (`shards`) and read (`reader`).

A cache is a folder of safetensors shards and a manifest that is written last: a folder without one is no cache.
Of a KL autoencoder it stores raw posterior moments of each image and of its flip, so that every read can draw a
fresh sample; of a VQ autoencoder it stores their tokens (`tokens`). `open_cache` and `create_cache_writer` choose.
"""

from pathlib import Path
from typing import Any, NamedTuple

from eqvae.autoencoders import Autoencoder
from eqvae.latents.features import FeatureCache, FeatureRows
from eqvae.latents.manifest import read_manifest
from eqvae.latents.reader import LatentCache
from eqvae.latents.shards import CachePlan, RowFormat, ShardWriter
from eqvae.latents.spec import LatentSpec, OpenLatents, TokenSpec
from eqvae.latents.tokens import TokenCache, TokenRows
from eqvae.latents.writer import LatentRows

__all__ = [
    "KINDS",
    "CachePlan",
    "FeatureCache",
    "FeatureRows",
    "LatentCache",
    "LatentRows",
    "LatentSpec",
    "OpenLatents",
    "RowFormat",
    "ShardWriter",
    "TokenCache",
    "TokenRows",
    "TokenSpec",
    "create_cache_writer",
    "open_cache",
]


class Kind(NamedTuple):
    """How a kind of latents is written and read."""

    rows: type[LatentRows] | type[TokenRows]
    cache: type[LatentCache]


KINDS = {LatentSpec.kind: Kind(LatentRows, LatentCache), TokenSpec.kind: Kind(TokenRows, TokenCache)}
"""By the kind that an autoencoder says its latents are."""


def open_cache(folder: str | Path, verify: bool = True) -> LatentCache:
    """The cache in a folder, of latents or of tokens; arguments and errors as of `LatentCache`."""
    of_tokens = "num_codes" in read_manifest(Path(folder)).get("latents", {})
    return KINDS[TokenSpec.kind if of_tokens else LatentSpec.kind].cache(folder, verify)


def create_cache_writer(
    folder: Path,
    autoencoder: Autoencoder,
    dataset: dict[str, Any],
    dtype: str = "float16",
    content: str = "moments",
    encoding_precision: str = "float32",
    tile_size: int | None = None,
    **options: Any,
) -> ShardWriter:
    """The writer that fits an autoencoder.

    Args:
        folder, dataset: of the cache, as of `ShardWriter`.
        autoencoder: that encodes.
        dtype, content: of latents, see `LatentRows`; tokens have their own.
        encoding_precision: as of `RowFormat`.
        tile_size: of the tiles that the autoencoder encodes in, which become part of the cache's identity.
        options: of `ShardWriter`.

    Raises:
        ValueError: as of `ShardWriter` and of the rows.
    """
    rows = KINDS[autoencoder.kind].rows(autoencoder, dtype, content, encoding_precision, tile_size)
    return ShardWriter(folder, rows, dataset, **options)

"""Latents on disk: what they are (`spec`), how a cache is written (`writer`) and read (`reader`).

A cache is a folder of safetensors shards and a manifest that is written last: a folder without one is no cache.
Of a KL autoencoder it stores raw posterior moments of each picture and of its flip, so that every read can draw a
fresh sample; of a VQ autoencoder it stores their tokens (`tokens`). `open_cache` and `create_cache_writer` choose.
"""

from pathlib import Path

from eqvae.autoencoders import Autoencoder
from eqvae.latents.features import FeatureCache, FeatureCacheWriter
from eqvae.latents.manifest import read_manifest
from eqvae.latents.reader import LatentCache
from eqvae.latents.spec import LatentSpec, TokenSpec
from eqvae.latents.tokens import TokenCache, TokenCacheWriter
from eqvae.latents.writer import LatentCacheWriter

__all__ = [
    "FeatureCache",
    "FeatureCacheWriter",
    "LatentCache",
    "LatentCacheWriter",
    "LatentSpec",
    "TokenCache",
    "TokenCacheWriter",
    "TokenSpec",
    "create_cache_writer",
    "open_cache",
]


def open_cache(folder: str | Path, verify: bool = True) -> LatentCache:
    """The cache in a folder, of latents or of tokens; arguments and errors as of `LatentCache`."""
    of_tokens = "num_codes" in read_manifest(Path(folder)).get("latents", {})
    return (TokenCache if of_tokens else LatentCache)(folder, verify)


def create_cache_writer(
    folder: Path,
    autoencoder: Autoencoder,
    dataset: dict,
    dtype: str = "float16",
    content: str = "moments",
    **options,
) -> LatentCacheWriter:
    """The writer that fits an autoencoder; dtype and content are those of latents, tokens have their own."""
    if autoencoder.kind == TokenSpec.kind:
        return TokenCacheWriter(folder, autoencoder, dataset, **options)
    return LatentCacheWriter(folder, autoencoder, dataset, dtype, content=content, **options)

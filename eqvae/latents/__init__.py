"""Latents on disk: what they are (`spec`), how a cache is written (`writer`) and read (`reader`).

A cache is a folder of safetensors shards and a manifest that is written last: a folder without one is no cache.
It stores raw posterior moments of each picture and of its flip, so that every read can draw a fresh sample.
"""

from eqvae.latents.features import FeatureCache, FeatureCacheWriter
from eqvae.latents.reader import LatentCache
from eqvae.latents.spec import LatentSpec
from eqvae.latents.writer import LatentCacheWriter

__all__ = ["FeatureCache", "FeatureCacheWriter", "LatentCache", "LatentCacheWriter", "LatentSpec"]

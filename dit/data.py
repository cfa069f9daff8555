"""The data module of stage 2: latents from a cache, in batches addressed by step."""

from collections.abc import Callable
from functools import cached_property, partial

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from eqvae.data.module import ImageBatches
from eqvae.data.sources import ImageSource, describe_pictures
from eqvae.latents import FeatureCache, LatentCache, LatentSpec, open_cache
from eqvae.stream import SequentialBatches, training_loader


class LatentDataModule(lightning.LightningDataModule):
    """Batches of fresh posterior samples from a latent cache, or of tokens from a token cache.

    Batches are dicts: `latents` [B, C, h, w] normalized or tokens [B, h, w], `label` [B], `index` [B], `key` [B]. Where
    a model is aligned (`dit.alignment`) also `features` [B, T, z], or without a feature cache `image` [B, 3, H, W] in
    [-1, 1], of the same picture and flip as the latents.

    Args:
        cache: folder that `train.py predict` wrote.
        batch_size: latents per device and step (per accumulated batch).
        evaluation_batch_size: latents per batch of `validate`.
        num_validation_latents: how many latents `validate` reads.
        flip: take half of the training latents from the flipped picture.
        verify: compare the cache with its checksums on opening.
        num_workers: loader processes; reading is memory-mapped, so 0 is usually fastest.
        seed: of order, flips and posterior samples.
        pictures: of which the cache was made, if they are at hand; a cache of others is refused. Null does not look.
        features: folder of a feature cache of the same pictures, for alignment.
    """

    def __init__(
        self,
        cache: str,
        batch_size: int = 256,
        evaluation_batch_size: int = 256,
        num_validation_latents: int = 2048,
        flip: bool = True,
        verify: bool = True,
        num_workers: int = 0,
        seed: int = 0,
        pictures: ImageSource | None = None,
        features: str | None = None,
    ):
        super().__init__()
        self.cache_folder, self.verify = cache, verify
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.num_validation_latents = num_validation_latents
        self.flip, self.num_workers, self.seed = flip, num_workers, seed
        self.pictures, self.features_folder = pictures, features
        self.reads_targets = False  # an aligned model sets it

    @cached_property
    def cache(self) -> LatentCache:
        return open_cache(self.cache_folder, self.verify)

    @cached_property
    def features(self) -> FeatureCache:
        return FeatureCache(self.features_folder, self.verify)

    @property
    def spec(self) -> LatentSpec:
        return self.cache.spec

    @property
    def num_classes(self) -> int:
        return self.cache.num_classes

    def setup(self, stage: str) -> None:
        assert len(self.cache) > 0
        if self.pictures is not None:
            self.cache.require_pictures(describe_pictures(self.pictures))

    def train_dataloader(self) -> DataLoader:
        batches = _CacheBatches(self.cache, self.flip, self.seed, self._read_targets)
        return training_loader(batches, self.batch_size, self.seed, self.trainer, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        batches = _CacheBatches(self.cache, False, self.seed, self._read_targets)
        return SequentialBatches(batches, self.evaluation_batch_size, self.num_validation_latents).loader()

    def _read_targets(self, ids: Tensor, flipped: Tensor) -> dict[str, Tensor]:
        """What an aligned model compares with, of the same pictures and flips as the latents."""
        if not self.reads_targets:
            return {}
        if self.features_folder is not None:
            return {"features": self.features.targets(ids, flipped)}
        images = ImageBatches(self.pictures).get_batch(ids, None)["image"]
        return {"image": torch.where(flipped[:, None, None, None], images.flip(-1), images)}

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()


class _CacheBatches:
    """A cache with its reading options bound."""

    def __init__(self, cache: LatentCache, flip: bool, seed: int, read_targets: Callable):
        self.cache, self._read_targets = cache, read_targets
        self._read = partial(cache.get_batch, flip=flip, seed=seed)

    def __len__(self) -> int:
        return len(self.cache)

    def get_batch(self, ids: Tensor, keys: Tensor | None) -> dict[str, Tensor]:
        batch = self._read(ids, keys)
        return batch | self._read_targets(ids, batch["flipped"])

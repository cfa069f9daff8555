"""The data module of stage 2: latents from a cache, in batches addressed by step."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import lightning
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from dit.validation import VALIDATION_SEED, stratified
from eqvae.data.module import ImageBatches
from eqvae.data.sources import ImageSource, describe_images
from eqvae.latents import FeatureCache, LatentCache, LatentSpec, open_cache
from eqvae.latents.reader import require_held_out
from eqvae.ranges import require_counts
from eqvae.selection import describe_selection
from eqvae.stream import SequentialBatches, describe_batch, training_loader


class LatentDataModule(lightning.LightningDataModule):
    """Batches of fresh posterior samples from a latent cache, or of tokens from a token cache.

    Batches are dicts: `latents` [B, C, h, w] normalized or tokens [B, h, w], `label` [B], `index` [B], `key` [B]. Where
    a model is aligned (`dit.alignment`) also `features` [B, T, z], or without a feature cache `image` [B, 3, H, W] in
    [-1, 1], of the same image and flip as the latents. Validation batches have one fixed posterior sample of each
    unflipped image and, in place of targets, `uniform` [B]: numbers in (0, 1) for the times, see `dit.validation`.

    Args:
        cache: folder that `train.py predict` wrote.
        global_batch_size: latents per optimizer step, of all devices and accumulated batches together.
        evaluation_batch_size: latents per batch of validation, on each device.
        validation_cache: folder of held-out latents, which `predict` wrote beside the cache; null: `fit` does not
            validate, and `validate` is refused.
        num_validation_latents: read only so many of these, evenly spaced; null reads all.
        flip: take half of the training latents from the flipped image.
        verify: compare the cache with its checksums on opening.
        num_workers: loader processes; reading is memory-mapped, so 0 is usually fastest.
        seed: of order, flips and posterior samples.
        images: of which the cache was made, if they are at hand; a cache of others is refused. Null does not look.
        features: folder of a feature cache of the same images, for alignment.

    Raises:
        ValueError: for a count below 1, or another number that nothing can be read with.
    """

    def __init__(
        self,
        cache: str,
        global_batch_size: int = 256,
        evaluation_batch_size: int = 256,
        validation_cache: str | None = None,
        num_validation_latents: int | None = None,
        flip: bool = True,
        verify: bool = True,
        num_workers: int = 0,
        seed: int = 0,
        images: ImageSource | None = None,
        features: str | None = None,
    ):
        super().__init__()
        require_counts(
            evaluation_batch_size=evaluation_batch_size,
            num_validation_latents=num_validation_latents,
            num_workers=num_workers,
            seed=seed,
        )
        self.cache_folder, self.verify = cache, verify
        self.global_batch_size, self.evaluation_batch_size = global_batch_size, evaluation_batch_size
        self.validation_folder, self.num_validation_latents = validation_cache, num_validation_latents
        self.flip, self.num_workers, self.seed = flip, num_workers, seed
        self.images, self.features_folder = images, features
        self.reads_targets = False  # an aligned model sets it

    @cached_property
    def cache(self) -> LatentCache:
        return open_cache(self.cache_folder, self.verify)

    @cached_property
    def validation_cache(self) -> LatentCache:
        assert self.validation_folder is not None, "asked for where there is one"
        if not Path(self.validation_folder).is_dir():
            raise ValueError(
                f"{self.validation_folder} is no finished latent cache: `train.py predict` writes it beside "
                f"{self.cache_folder}; without one set data.init_args.validation_cache to null"
            )
        held_out = open_cache(self.validation_folder, self.verify)
        require_held_out(held_out, self.cache)
        return held_out

    @cached_property
    def features(self) -> FeatureCache:
        assert self.features_folder is not None, "asked for where there is one"
        return FeatureCache(self.features_folder, self.verify)

    @property
    def spec(self) -> LatentSpec:
        return self.cache.spec

    @property
    def num_classes(self) -> int:
        return self.cache.num_classes

    def setup(self, stage: str) -> None:
        assert len(self.cache) > 0
        if self.images is not None:
            self.cache.require_images(describe_images(self.images))
        if self.validation_folder is None and stage in ("validate", "test"):
            raise ValueError(
                "there are no held-out latents to measure the loss on: set data.init_args.validation_cache to the "
                "folder that `train.py predict` wrote beside the cache"
            )
        validates = stage != "fit" or (self.trainer is not None and self.trainer.limit_val_batches)
        if self.validation_folder is not None and validates:
            assert len(self.validation_cache) > 0  # refused before anything runs

    def train_dataloader(self) -> DataLoader:
        rank_zero_info(describe_batch(self.global_batch_size, self.trainer))
        batches = _CacheBatches(self.cache, self.flip, self.seed, self._read_targets)
        return training_loader(batches, self.global_batch_size, self.seed, self.trainer, self.num_workers)

    def val_dataloader(self) -> DataLoader | list:
        assert self.trainer is not None
        return self._validation_loader(self.trainer.limit_val_batches)

    def test_dataloader(self) -> DataLoader | list:
        assert self.trainer is not None
        return self._validation_loader(self.trainer.limit_test_batches)

    def predict_dataloader(self) -> DataLoader:
        raise ValueError("stage 2 has no predict: images come from sample.py --checkpoint")

    def _validation_loader(self, limit_batches: int | float) -> DataLoader | list:
        if self.validation_folder is None:
            return []
        batches = _HeldOutBatches(
            self.validation_cache, self.evaluation_batch_size, self.num_validation_latents, limit_batches
        )
        which = describe_selection(len(batches.ids), len(self.validation_cache))
        rank_zero_info(f"validation latents: {which}, of {self.validation_folder}; noise and times are fixed")
        return batches.loader()

    def _read_targets(self, ids: Tensor, flipped: Tensor) -> dict[str, Tensor]:
        """What an aligned model compares with, of the same images and flips as the latents."""
        if not self.reads_targets:
            return {}
        if self.features_folder is not None:
            return {"features": self.features.targets(ids, flipped)}
        assert self.images is not None, "an alignment has asked for them, or for features"
        images = ImageBatches(self.images).get_batch(ids, None)["image"]
        return {"image": torch.where(flipped[:, None, None, None], images.flip(-1), images)}


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


class _HeldOutBatches(SequentialBatches):
    """A validation cache: of each image the same posterior sample and the same place in time whenever it is read."""

    def __init__(self, cache: LatentCache, batch_size: int, limit: int | None, limit_batches: int | float):
        super().__init__(cache, batch_size, limit, limit_batches)
        self.cache = cache
        self.uniform = stratified(len(self.ids))

    def __getitem__(self, batch: int) -> dict[str, Tensor]:
        rows = self.rows(batch)
        ids = self.ids[rows]
        latents = self.cache.get_batch(ids, ids, flip=False, seed=VALIDATION_SEED)
        return latents | {"key": ids, "uniform": self.uniform[rows]}

"""The data module of stage 1: images in batches addressed by step."""

from functools import partial
from typing import Literal

import lightning
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from eqvae.data.encoded import EncodedSource
from eqvae.data.images import RANDOM_CROPS, to_float
from eqvae.data.overlap import are_same_images
from eqvae.data.sources import ImageSource, describe_images
from eqvae.latents.shards import CachePlan, shards_of_process
from eqvae.randomness import keyed_uniform
from eqvae.ranges import require_counts
from eqvae.selection import describe_selection
from eqvae.stream import SequentialBatches, describe_batch, training_loader

Crop = Literal["center", "random_adm", "random_eq_vae"]


class ImageBatches:
    """An image source read in whole batches.

    Args:
        source: where images come from.
        flip: flip half of the images left to right, keyed by position of the stream (training only).
        seed: of the flips and crops.
        crop: "center" (ADM's), or for training, keyed by position of the stream, "random_adm" (0.8 to 1 of the short
            side) or "random_eq_vae" (0.5 to 1, resized by area).

    Raises:
        ValueError: for random crops of a source whose images have one size already.
    """

    def __init__(self, source: ImageSource, flip: bool = False, seed: int = 0, crop: Crop = "center"):
        if crop != "center" and crop not in RANDOM_CROPS:
            raise ValueError(f"crop {crop!r} is unknown: use center, {' or '.join(RANDOM_CROPS)}")
        if crop != "center" and not isinstance(source, EncodedSource):
            raise ValueError(f"crop {crop} needs images from files, {type(source).__name__} has them cropped already")
        self.source, self.flip, self.seed, self.crop = source, flip, seed, crop

    def __len__(self) -> int:
        return len(self.source)

    def get_batch(self, ids: Tensor, keys: Tensor | None) -> dict[str, Tensor]:
        """`image` [B, 3, H, W] in [-1, 1], `label` [B], `index` [B]; keys None reads without random flips."""
        if self.crop != "center" and keys is not None:
            assert isinstance(self.source, EncodedSource), "only these are cropped at random"
            draws = keyed_uniform(keys, (3,), seed=self.seed, stream="crop")
            crops = [partial(RANDOM_CROPS[self.crop], draw=draw) for draw in draws]
            read = [self.source.cropped(index, crop) for index, crop in zip(ids.tolist(), crops, strict=True)]
        else:
            read = [self.source[index] for index in ids.tolist()]
        images, labels = zip(*read, strict=True)
        images = to_float(torch.stack(images))
        if self.flip and keys is not None:
            flipped = keyed_uniform(keys, seed=self.seed, stream="flip") < 0.5
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        return {"image": images, "label": torch.tensor(labels), "index": ids}


def _look_at_held_out(train: ImageSource, validation: ImageSource) -> None:
    if not len(validation):
        raise ValueError("data.init_args.validation holds no images: give some, or null")
    if are_same_images(train, validation):
        rank_zero_warn(
            "data.init_args.validation has the images of data.init_args.train, so validation measures training images: "
            "give others, of procedural ones another seed"
        )


class ImageDataModule(lightning.LightningDataModule):
    """Training, validation and prediction batches of images.

    Batches are dicts: `image` [B, 3, H, W] in [-1, 1], `label` [B], `index` [B] (of the image in its source) and
    `key` [B] (what random numbers for it are keyed by).

    Args:
        train: images to train on, and those that `predict` caches.
        validation: images to measure on, which `predict` caches beside the others; null: the training images.
        global_batch_size: images per optimizer step, of all devices and accumulated batches together.
        evaluation_batch_size: images per batch in validation and prediction, on each device.
        num_validation_images: read only so many validation images, evenly spaced; null reads all.
        flip: flip half of the training images left to right.
        num_workers: loader processes; 0 loads in the training process.
        seed: of order, flips and crops.
        crop: of training images, see `ImageBatches`; all others are cropped at the centre.

    Raises:
        ValueError: for a count below 1, or validation images that are none.
    """

    def __init__(
        self,
        train: ImageSource,
        validation: ImageSource | None = None,
        global_batch_size: int = 10,
        evaluation_batch_size: int = 100,
        num_validation_images: int | None = None,
        flip: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        crop: Crop = "center",
    ):
        super().__init__()
        require_counts(
            evaluation_batch_size=evaluation_batch_size,
            num_validation_images=num_validation_images,
            num_workers=num_workers,
            seed=seed,
        )
        if validation is not None:
            _look_at_held_out(train, validation)
        self.sources = {"train": train, "validation": train if validation is None else validation}
        self._descriptions: dict[str, dict] = {}
        self.crop: Crop = crop
        self.global_batch_size, self.evaluation_batch_size = global_batch_size, evaluation_batch_size
        self.num_validation_images = num_validation_images
        self.flip, self.num_workers, self.seed, self.crop = flip, num_workers, seed, crop

    @property
    def num_classes(self) -> int:
        return self.sources["train"].num_classes

    def count(self, split: str) -> int:
        """Images that are read of "train" or "validation"."""
        limit = self.num_validation_images if split == "validation" else None
        return min(len(self.sources[split]), limit or len(self.sources[split]))

    @property
    def cached_splits(self) -> list[str]:
        """What `predict` caches: "train" and, where the module asks for them and they are others, "validation"."""
        own = self.sources["validation"] is not self.sources["train"]
        return ["train", "validation"] if self._cache_plan.validation and own else ["train"]

    @property
    def _cache_plan(self) -> CachePlan:
        """Of the module that predicts; the default without one, or where it caches nothing."""
        return getattr(self.trainer and self.trainer.lightning_module, "cache_plan", CachePlan())

    def train_dataloader(self) -> DataLoader:
        rank_zero_info(describe_batch(self.global_batch_size, self.trainer))
        batches = ImageBatches(self.sources["train"], self.flip, self.seed, self.crop)
        return training_loader(batches, self.global_batch_size, self.seed, self.trainer, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self._validation_loader(self.trainer and self.trainer.limit_val_batches)

    def test_dataloader(self) -> DataLoader:
        return self._validation_loader(self.trainer and self.trainer.limit_test_batches)

    def _validation_loader(self, limit_batches: int | float | None) -> DataLoader:
        limit_batches = 1.0 if limit_batches is None else limit_batches
        batches = self._sequential("validation", self.num_validation_images, limit_batches)
        which = describe_selection(len(batches.ids), len(self.sources["validation"]))
        held_out = self.sources["validation"] is not self.sources["train"]
        rank_zero_info(f"validation images: {which}" + ("" if held_out else " (those of the training: none held out)"))
        return batches.loader(self.num_workers)

    def predict_dataloader(self) -> DataLoader | list[DataLoader]:
        """Images of each of `cached_splits` in index order; of several processes each reads what it writes."""
        loaders = [self._loader_of_process(split) for split in self.cached_splits]
        return loaders if len(loaders) > 1 else loaders[0]

    def _loader_of_process(self, split: str) -> DataLoader:
        trainer, num_images = self.trainer, len(self.sources[split])
        if trainer is None or trainer.world_size == 1:
            return self.sequential_loader(split)
        shard_rows = self._cache_plan.shard_rows
        shards = shards_of_process(num_images, shard_rows, trainer.global_rank, trainer.world_size)
        rows = range(shards.start * shard_rows, min(shards.stop * shard_rows, num_images))
        return self._sequential(split).loader(self.num_workers, rows)

    def sequential_loader(self, split: str, limit: int | None = None) -> DataLoader:
        """Images of "train" or "validation" once, in index order, unflipped; `limit` of them are evenly spaced."""
        return self._sequential(split, limit).loader(self.num_workers)

    def _sequential(self, split: str, limit: int | None = None, limit_batches: int | float = 1.0) -> SequentialBatches:
        return SequentialBatches(ImageBatches(self.sources[split]), self.evaluation_batch_size, limit, limit_batches)

    def teardown(self, stage: str) -> None:
        """Report images that were skipped."""
        for split, source in self.sources.items():
            if skipped := getattr(source, "num_skipped", 0):
                rank_zero_warn(f"{skipped} of {len(source)} {split} images could not be read: skipped")

    def image_size(self, split: str) -> tuple[int, int]:
        """(height, width) of the images of "train" or "validation", read off the first."""
        height, width = self.sources[split][0][0].shape[-2:]
        return height, width

    def description(self, split: str = "train") -> dict:
        """What a latent cache records of its images, found once: of a million files it takes seconds."""
        if split not in self._descriptions:
            self._descriptions[split] = describe_images(self.sources[split])
        return self._descriptions[split]

"""The data module of stage 1: pictures in batches addressed by step."""

from typing import Literal

import lightning
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from eqvae.data.images import to_float
from eqvae.data.sources import EncodedSource, ImageSource, describe_pictures
from eqvae.latents.writer import SHARD_ROWS, shards_of_process
from eqvae.randomness import keyed_uniform
from eqvae.stream import SequentialBatches, training_loader


class ImageBatches:
    """An image source read in whole batches.

    Args:
        source: where pictures come from.
        flip: flip half of the pictures left to right, keyed by position of the stream (training only).
        seed: of the flips and crops.
        crop: "center", or "random" for ADM's random crop, keyed by position of the stream (training only).

    Raises:
        ValueError: for random crops of a source whose pictures have one size already.
    """

    def __init__(
        self, source: ImageSource, flip: bool = False, seed: int = 0, crop: Literal["center", "random"] = "center"
    ):
        if crop not in ("center", "random"):
            raise ValueError(f"crop {crop!r} is unknown: use center or random")
        if crop == "random" and not isinstance(source, EncodedSource):
            raise ValueError(f"crop random needs pictures from files, {type(source).__name__} has them cropped already")
        self.source, self.flip, self.seed, self.crop = source, flip, seed, crop

    def __len__(self) -> int:
        return len(self.source)

    def get_batch(self, ids: Tensor, keys: Tensor | None) -> dict[str, Tensor]:
        """`image` [B, 3, H, W] in [-1, 1], `label` [B], `index` [B]; keys None reads without random flips."""
        if self.crop == "random" and keys is not None:
            draws = keyed_uniform(keys, (3,), seed=self.seed, stream="crop")
            read = [self.source.crop(index, draw) for index, draw in zip(ids.tolist(), draws, strict=True)]
        else:
            read = [self.source[index] for index in ids.tolist()]
        pictures, labels = zip(*read, strict=True)
        images = to_float(torch.stack(pictures))
        if self.flip and keys is not None:
            flipped = keyed_uniform(keys, seed=self.seed, stream="flip") < 0.5
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        return {"image": images, "label": torch.tensor(labels), "index": ids}


class ImageDataModule(lightning.LightningDataModule):
    """Training, validation and prediction batches of pictures.

    Batches are dicts: `image` [B, 3, H, W] in [-1, 1], `label` [B], `index` [B] (of the picture in its source) and
    `key` [B] (what random numbers for it are keyed by).

    Args:
        train: pictures to train on, and those that `predict` caches.
        validation: pictures to measure on; null: the training pictures.
        batch_size: pictures per device and step (per accumulated batch).
        evaluation_batch_size: pictures per batch in validation and prediction.
        num_validation_images: read only the first so many validation pictures; null reads all.
        flip: flip half of the training pictures left to right.
        num_workers: loader processes; 0 loads in the training process.
        seed: of order, flips and crops.
        crop: "center" or "random" (ADM's) for training pictures from files.
    """

    def __init__(
        self,
        train: ImageSource,
        validation: ImageSource | None = None,
        batch_size: int = 10,
        evaluation_batch_size: int = 100,
        num_validation_images: int | None = None,
        flip: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        crop: Literal["center", "random"] = "center",
    ):
        super().__init__()
        self.sources = {"train": train, "validation": validation or train}
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.num_validation_images = num_validation_images
        self.flip, self.num_workers, self.seed, self.crop = flip, num_workers, seed, crop

    @property
    def num_classes(self) -> int:
        return self.sources["train"].num_classes

    def train_dataloader(self) -> DataLoader:
        batches = ImageBatches(self.sources["train"], self.flip, self.seed, self.crop)
        return training_loader(batches, self.batch_size, self.seed, self.trainer, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self.sequential_loader("validation", self.num_validation_images)

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader:
        """The training pictures in index order; of several processes each reads what it writes to a latent cache."""
        trainer, num_images = self.trainer, len(self.sources["train"])
        if trainer is None or trainer.world_size == 1:
            return self.sequential_loader("train")
        shards = shards_of_process(num_images, SHARD_ROWS, trainer.global_rank, trainer.world_size)
        rows = range(shards.start * SHARD_ROWS, min(shards.stop * SHARD_ROWS, num_images))
        return self._sequential("train").loader(self.num_workers, rows)

    def sequential_loader(self, split: str, limit: int | None = None) -> DataLoader:
        """Pictures of "train" or "validation" once, in index order, unflipped."""
        return self._sequential(split, limit).loader(self.num_workers)

    def _sequential(self, split: str, limit: int | None = None) -> SequentialBatches:
        return SequentialBatches(ImageBatches(self.sources[split]), self.evaluation_batch_size, limit)

    def teardown(self, stage: str) -> None:
        """Report pictures that were skipped."""
        for split, source in self.sources.items():
            if isinstance(source, EncodedSource) and source.num_skipped:
                rank_zero_warn(f"{source.num_skipped} of {len(source)} {split} pictures could not be read: skipped")

    def image_size(self, split: str) -> tuple[int, int]:
        """(height, width) of the images of "train" or "validation", read off the first."""
        return tuple(self.sources[split][0][0].shape[-2:])

    def description(self) -> dict:
        """What a latent cache records of its pictures."""
        return describe_pictures(self.sources["train"])

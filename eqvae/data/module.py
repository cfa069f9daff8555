"""The data module of stage 1: pictures in batches addressed by step."""

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from eqvae.data.images import to_float
from eqvae.data.sources import ImageSource
from eqvae.training.randomness import keyed_uniform
from eqvae.training.stream import SequentialBatches, training_loader


class ImageBatches:
    """An image source read in whole batches.

    Args:
        source: where pictures come from.
        flip: flip half of the pictures left to right, keyed by position of the stream (training only).
        seed: of the flips.
    """

    def __init__(self, source: ImageSource, flip: bool = False, seed: int = 0):
        self.source, self.flip, self.seed = source, flip, seed

    def __len__(self) -> int:
        return len(self.source)

    def get_batch(self, ids: Tensor, keys: Tensor | None) -> dict[str, Tensor]:
        """`image` [B, 3, H, W] in [-1, 1], `label` [B], `index` [B]; keys None reads without random flips."""
        pictures, labels = zip(*(self.source[index] for index in ids.tolist()), strict=True)
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
        seed: of order and flips.
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
    ):
        super().__init__()
        self.sources = {"train": train, "validation": validation or train}
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.num_validation_images = num_validation_images
        self.flip, self.num_workers, self.seed = flip, num_workers, seed

    @property
    def num_classes(self) -> int:
        return self.sources["train"].num_classes

    def train_dataloader(self) -> DataLoader:
        batches = ImageBatches(self.sources["train"], self.flip, self.seed)
        return training_loader(batches, self.batch_size, self.seed, self.trainer, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self.sequential_loader("validation", self.num_validation_images)

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader:
        return self.sequential_loader("train")

    def sequential_loader(self, split: str, limit: int | None = None) -> DataLoader:
        """Pictures of "train" or "validation" once, in index order, unflipped."""
        batches = ImageBatches(self.sources[split])
        return SequentialBatches(batches, self.evaluation_batch_size, limit).loader(self.num_workers)

    def description(self) -> dict:
        """What a latent cache records of its pictures."""
        source = self.sources["train"]
        return {
            "fingerprint": source.fingerprint(),
            "num_images": len(source),
            "num_classes": source.num_classes,
            "class_names": source.class_names,
        }

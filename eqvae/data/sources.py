"""What a source of images is, what a cache records of it, and one that keeps another in memory."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from eqvae.data.images import PREPROCESSING_VERSION


@runtime_checkable
class ImageSource(Protocol):
    """A list of labelled images of one size."""

    num_classes: int
    class_names: list[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """uint8 [3, S, S] and the class of one image."""
        ...

    def fingerprint(self) -> str:
        """sha256 of what defines the images: files, crop and size."""
        ...


@runtime_checkable
class MaskedSource(Protocol):
    """An image source that knows what in an image is foreground."""

    def masks(self, indices: Tensor) -> Tensor:
        """bool [B, S, S] of the images of these indices [B]."""
        ...


def describe_images(source: ImageSource) -> dict:
    """What a latent cache records of its images, and compares them by."""
    return {
        "fingerprint": source.fingerprint(),
        "num_images": len(source),
        "num_classes": source.num_classes,
        "class_names": source.class_names,
        "image_size": source[0][0].shape[-1],
        "crop": "center",
        "preprocessing_version": PREPROCESSING_VERSION,
    }


class InMemorySource:
    """Another source, decoded once into a uint8 array: for small images that are read many times.

    Args:
        source: what to decode, at first use.
    """

    def __init__(self, source: ImageSource):
        self.source = source
        self.num_classes, self.class_names = source.num_classes, source.class_names
        self._images: Tensor | None = None
        self._labels: list[int] = []

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_skipped(self) -> int:
        """Images of the source that could not be read so far."""
        return getattr(self.source, "num_skipped", 0)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self._images is None:
            first, _ = self.source[0]
            self._images = torch.empty(len(self), *first.shape, dtype=torch.uint8)
            for row in range(len(self)):
                self._images[row], label = self.source[row]
                self._labels.append(label)
        return self._images[index], self._labels[index]

    def fingerprint(self) -> str:
        return self.source.fingerprint()

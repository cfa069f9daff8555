"""What autoencoders make of images, and of latents."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Posterior(Protocol):
    """Where latents are transformed: mean and standard deviation [B, C, h, w] of what images are encoded to."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...


@dataclass(frozen=True)
class PointPosterior:
    """The posterior of an autoencoder that draws nothing.

    Args:
        mean: [B, C, h, w].
    """

    mean: Tensor

    @property
    def std(self) -> Tensor:
        return torch.zeros_like(self.mean)


@dataclass(frozen=True)
class Codes:
    """Quantized features.

    Args:
        indices: [B, h, w] int64, of the nearest codebook vectors.
        latents: [B, C, h, w], these vectors, with gradient to the codebook and none to the features: the
            straight-through estimator is that of `transformed_decode`.
        features: [B, C, h, w], what was quantized, with gradient to the encoder.
    """

    indices: Tensor
    latents: Tensor
    features: Tensor


class Decoded(NamedTuple):
    """Images [B, 3, H, W], near [-1, 1] but not clamped, and the codes they were decoded from, where there are any."""

    images: Tensor
    codes: Codes | None = None

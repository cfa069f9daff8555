"""From raw latents (what the encoder emits) to normalized ones (what a generator sees) and back."""

from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from eqvae.autoencoders.exporting import FILES, RECORD, read_export_record
from eqvae.devices import column

MAX_CHANNELS = 2048  # the widest published latents have 1536
LARGEST = 1e30  # of a shift, a scale and its inverse: beyond it float32 overflows in what is computed with them


@dataclass(frozen=True)
class Normalization:
    """normalized = (raw - shift) * scale, per channel.

    Args:
        shift, scale: one number per channel, or a single one for all; scales are positive.
        method: where the numbers come from, for people.
        num_images: how many images they were estimated on; 0 for a published constant.

    Raises:
        ValueError: naming the entry that is no such number, or not as long as the other.
    """

    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    method: str = field(default="published constant", compare=False)
    num_images: int = field(default=0, compare=False)

    def __post_init__(self):
        for name in ("shift", "scale"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if len(self.shift) != len(self.scale):
            raise ValueError(f"shift has {len(self.shift)} numbers, scale {len(self.scale)}: give as many of each")
        if min(self.scale) < 1 / LARGEST:
            raise ValueError(f"scale must be positive, got {min(self.scale)}")
        if not isinstance(self.method, str) or type(self.num_images) is not int or self.num_images < 0:
            raise ValueError("method must be a text and num_images a whole number that is not negative")

    def require_channels(self, channels: int) -> None:
        """Refuse latents of another number of channels.

        Raises:
            ValueError: with both numbers.
        """
        if len(self.scale) not in (1, channels):
            raise ValueError(f"the normalization is of {len(self.scale)} channels, the latents have {channels}")

    def normalize(self, raw: Tensor) -> Tensor:
        """Raw [..., C, h, w] to normalized, std near 1."""
        return (raw - column(self.shift, raw.device)).mul_(column(self.scale, raw.device))

    def denormalize(self, normalized: Tensor) -> Tensor:
        """Normalized [..., C, h, w] to raw, which the decoder takes."""
        return normalized / column(self.scale, normalized.device) + column(self.shift, normalized.device)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """The way back from `to_dict`; ValueError naming the entry that is wrong."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"a normalization has shift, scale, method and num_images: {error}") from None

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Of an exported folder; None of another, or where none is known. A damaged file is a ValueError naming it."""
        record = read_export_record(folder)
        if record is None or (FILES in record and not record.keys() & {"shift", "scale"}):
            return None
        try:
            optional = {key: record[key] for key in ("method", "num_images") if key in record}
            return cls.from_dict({"shift": record["shift"], "scale": record["scale"]} | optional)
        except (KeyError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise ValueError(
                f"{folder / RECORD} is not a latent normalization ({reason}): remove it or export again"
            ) from None


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, (list, tuple)) or not 1 <= len(values) <= MAX_CHANNELS:
        size = f"{len(values)} of them" if isinstance(values, (list, tuple)) else repr(values)[:40]
        raise ValueError(f"{name} must be a list of 1 to {MAX_CHANNELS} numbers, got {size}")
    for value in values:
        # typeshed knows no order of the absolute values of `Real`
        if not isinstance(value, Real) or isinstance(value, bool) or not abs(value) <= LARGEST:  # pyright: ignore[reportOperatorIssue]
            raise ValueError(f"{name} must hold finite numbers, got {repr(value)[:40]}")
    return tuple(map(float, values))


class LatentStatistics:
    """Accumulates per-channel mean and standard deviation of posterior samples in float64, without drawing any.

    The variance of a sample is the variance of the means plus the mean of the variances.
    """

    def __init__(self):
        self.count, self.num_images = 0, 0
        self.sum = self.sum_of_squares = torch.zeros((), dtype=torch.float64)

    def update(self, mean: Tensor, std: Tensor) -> None:
        """Add the posteriors of a batch, both [B, C, h, w]."""
        mean, std = mean.double(), std.double()
        self.sum = self.sum + mean.sum((0, 2, 3)).cpu()
        self.sum_of_squares = self.sum_of_squares + (mean.square() + std.square()).sum((0, 2, 3)).cpu()
        self.count += mean.shape[0] * mean.shape[2] * mean.shape[3]
        self.num_images += len(mean)

    def normalization(self, images: str = "") -> Normalization:
        """Shift = mean and scale = 1 / std of each channel over all positions of all images seen.

        Args:
            images: which these were, for people: "2000 of 50000, evenly spaced".
        """
        assert self.count > 1, "no latents were accumulated"
        mean = self.sum / self.count
        std = (self.sum_of_squares / self.count - mean.square()).clamp_min(1e-12).sqrt()
        method = "per-channel mean and 1 / std of posterior samples" + (f", images: {images}" if images else "")
        return Normalization(tuple(mean.tolist()), tuple((1 / std).tolist()), method, self.num_images)

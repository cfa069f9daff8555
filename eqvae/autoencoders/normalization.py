"""From raw latents (what the encoder emits) to normalized ones (what a generator sees) and back."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from eqvae.autoencoders.exporting import RECORD, read_record


@dataclass(frozen=True)
class Normalization:
    """normalized = (raw - shift) * scale, per channel.

    Args:
        shift, scale: one number per channel, or a single one for all.
        method: where the numbers come from, for people.
        num_images: how many images they were estimated on; 0 for a published constant.
    """

    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    method: str = field(default="published constant", compare=False)
    num_images: int = field(default=0, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "shift", tuple(map(float, self.shift)))
        object.__setattr__(self, "scale", tuple(map(float, self.scale)))

    def normalize(self, raw: Tensor) -> Tensor:
        """Raw [..., C, h, w] to normalized, std near 1."""
        return (raw - self._column(self.shift, raw)) * self._column(self.scale, raw)

    def denormalize(self, normalized: Tensor) -> Tensor:
        """Normalized [..., C, h, w] to raw, which the decoder takes."""
        return normalized / self._column(self.scale, normalized) + self._column(self.shift, normalized)

    @staticmethod
    def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        return cls(**values)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Of an exported folder; None of another. A damaged file is a ValueError naming it."""
        record = read_record(folder)
        if record is None:
            return None
        try:
            optional = {key: record[key] for key in ("method", "num_images") if key in record}
            return cls.from_dict({"shift": record["shift"], "scale": record["scale"]} | optional)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder / RECORD} is not a latent normalization ({error}): remove it or export again"
            ) from None


class LatentStatistics:
    """Accumulates per-channel mean and standard deviation of posterior samples in float64, without drawing any.

    The variance of a sample is the variance of the means plus the mean of the variances.
    """

    def __init__(self):
        self.count, self.num_images = 0, 0
        self.sum = self.sum_of_squares = 0.0

    def update(self, mean: Tensor, std: Tensor) -> None:
        """Add the posteriors of a batch, both [B, C, h, w]."""
        mean, std = mean.double(), std.double()
        self.sum = self.sum + mean.sum((0, 2, 3)).cpu()
        self.sum_of_squares = self.sum_of_squares + (mean.square() + std.square()).sum((0, 2, 3)).cpu()
        self.count += mean.shape[0] * mean.shape[2] * mean.shape[3]
        self.num_images += len(mean)

    def normalization(self) -> Normalization:
        """Shift = mean and scale = 1 / std of each channel over all positions of all images seen."""
        assert self.count > 1, "no latents were accumulated"
        mean = self.sum / self.count
        std = (self.sum_of_squares / self.count - mean.square()).clamp_min(1e-12).sqrt()
        method = "per-channel mean and 1 / std of posterior samples"
        return Normalization(tuple(mean.tolist()), tuple((1 / std).tolist()), method, self.num_images)

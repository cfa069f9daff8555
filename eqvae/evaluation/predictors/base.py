"""What every predictor takes and what it is: latents with all that is known of them in, a few named numbers out."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from eqvae.evaluation.batches import images_at_once
from eqvae.evaluation.metric import Direction, Metric
from eqvae.selection import evenly_spaced

NEEDS = {
    "labels": "labels of two classes at least",
    "masks": "foreground masks, which the images do not come with",
    "posterior": "a posterior with noise, which this autoencoder has not",
    "model": "an autoencoder and some of its images",
    "features": "features of the images and of decoded latents",
}


Known = TypeVar("Known")


def known(value: Known | None) -> Known:
    """What a sample has since the predictor needs it: `Predictor` refuses samples without it before it computes."""
    assert value is not None, "named in the predictor's needs"
    return value


@dataclass(eq=False)
class LatentSample:
    """A set of latents in images' order, and what is known of it.

    Args:
        latents: [N, C, h, w] posterior means, normalized to mean 0 and std 1 per channel over this set.
        image_size: side of the images in pixels.
        labels: [N] classes; None where they are not known.
        masks: [N, h, w] bool, the foreground on the latents' grid; None where it is not known.
        noise: [C, h, w] mean variance of the posteriors, in the units of `latents`; None for one without noise.
        rate: [C] mean divergence of the posteriors from a standard normal, in nats per latent element.
        images: uint8 [M, 3, S, S], some of the images, evenly spaced.
        encode: images [B, 3, S, S] in [-1, 1] to normalized latents.
        decode: normalized latents to images, not clamped; gradients pass.
        features: [N, D] of the images by a frozen network.
        extract: uint8 images to such features.
        smallest_side: of latents that can be encoded and decoded.
    """

    latents: Tensor
    image_size: int
    labels: Tensor | None = None
    masks: Tensor | None = None
    noise: Tensor | None = None
    rate: Tensor | None = None
    images: Tensor | None = None
    encode: Callable[[Tensor], Tensor] | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    features: Tensor | None = None
    extract: Callable[[Tensor], Tensor] | None = None
    smallest_side: int = 1
    _kept: dict = field(default_factory=dict, repr=False)

    def has(self, need: str) -> bool:
        """Whether the set has what a predictor needs, a name of `NEEDS`."""
        return {
            "labels": self.labels is not None and len(self.labels.unique()) > 1,
            "masks": self.masks is not None,
            "posterior": self.noise is not None and self.rate is not None,
            "model": None not in (self.images, self.encode, self.decode),
            "features": None not in (self.features, self.extract, self.decode),
        }[need]

    def in_parts(self, tensor: Tensor, most: int) -> tuple[Tensor, ...]:
        """Images or latents [n, ...] in parts that pass the autoencoder together, of at most so many."""
        return tensor.split(images_at_once(self.image_size, self.image_size, most))

    def few(self, count: int) -> Tensor:
        """At most so many of the latents, evenly spaced."""
        return self.latents[evenly_spaced(count, len(self.latents))]

    def different(self) -> Tensor:
        """Rows of the latents that repeat no earlier one: of a copy, the nearest neighbour says nothing."""

        def compute() -> Tensor:
            first: dict[bytes, int] = {}
            for row, latent in enumerate(self.latents.flatten(1).numpy()):
                first.setdefault(hashlib.sha256(latent.tobytes()).digest(), row)
            return torch.tensor(list(first.values()))

        return self.once("different", compute)

    def once(self, name: str, compute: Callable[[], object]):
        """What `compute` gives, computed at first use: for what several predictors need."""
        if name not in self._kept:
            self._kept[name] = compute()
        return self._kept[name]


@dataclass(frozen=True)
class Predictor:
    """One predictor: `predictor(sample)` gives {"name/quantity": value}.

    Args:
        name: in commands and in front of its quantities.
        label: for people.
        source: paper and equation.
        quantities: {quantity: direction}, the one to rank by first: whether a higher or a lower value predicts a better
            generator, or "open" where no published study says so.
        compute: the quantities, in that order, of a sample that has what is needed.
        needs: names of `NEEDS`, what the sample must have beside latents.
        min_channels: of the latents; angles between vectors [C] need two.
        min_side: of the latents' grid.
        invariances: what may be done to a sample without changing the numbers: "order" of the images, names of
            "labels", "signs" and order of channels, "rotation" of channel space, "turn" (the grid is transposed),
            "scale" of the latents.
    """

    name: str
    label: str
    source: str
    quantities: dict[str, Direction]
    compute: Callable[[LatentSample], dict[str, float]]
    needs: tuple[str, ...] = ()
    min_channels: int = 1
    min_side: int = 1
    invariances: tuple[str, ...] = ("order",)

    def metrics(self) -> list[Metric]:
        """Its quantities, "name/quantity" each, in order."""
        return [
            Metric(f"{self.name}/{quantity}", f"{self.label}, {quantity}", direction, needs=self.needs)
            for quantity, direction in self.quantities.items()
        ]

    def __call__(self, sample: LatentSample) -> dict[str, float]:
        """Check the sample, compute, and name each quantity after the predictor.

        Raises:
            ValueError: in one line, what the sample lacks.
        """
        for need in self.needs:
            if not sample.has(need):
                raise ValueError(f"{self.name} needs {NEEDS[need]}")
        shape = tuple(sample.latents.shape)
        if len(shape) != 4 or shape[0] < 3 or not torch.isfinite(sample.latents).all():
            raise ValueError(f"{self.name} needs finite latents [N, C, h, w] of three images at least, got {shape}")
        if float(sample.latents.min()) == float(sample.latents.max()):
            raise ValueError(f"{self.name} needs latents that vary, these are constant")
        if shape[1] < self.min_channels:
            raise ValueError(f"{self.name} compares directions in channel space, which one channel has not")
        if min(shape[2:]) < self.min_side:
            raise ValueError(f"{self.name} needs latents of {self.min_side} x {self.min_side} at least, got {shape}")
        values = {quantity: float(value) for quantity, value in self.compute(sample).items()}
        assert list(values) == list(self.quantities), (self.name, list(values))
        broken = [quantity for quantity, value in values.items() if not math.isfinite(value)]
        if broken:
            raise ValueError(f"{self.name} has no finite {', '.join(broken)} on these latents")
        return {f"{self.name}/{quantity}": value for quantity, value in values.items()}


def white_noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, always the same: the latents of no structure that others are set against."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)

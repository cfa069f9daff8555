"""Transforms of images and latents alike, and how far an autoencoder is from obeying them.

EQ-VAE (arXiv 2502.09509) asks that a transformed latent decodes to the transformed image. Here are the transforms and
`equivariance_errors`, which measures; what trains towards it is `eqvae.regularizers.Equivariance`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.autoencoders import Autoencoder

QUARTER_TURNS = (1, 2, 3)
MEASURED_SCALES = (0.25, 0.5, 0.75)  # of the paper's equivariance error
Factor = float | Fraction


@dataclass(frozen=True)
class SpatialTransform:
    """Resize by (vertical, horizontal) factors, flip left to right if asked, then turn clockwise.

    Acts on any [B, C, H, W], images and latents alike, by the same call: no antialiasing, corners not aligned.

    Args:
        scale: (sy, sx). Floats as the released code takes them: the output has floor(sy * H) by floor(sx * W) pixels
            before it is turned, and a product that is rounded down, as 22 * (15 / 22), loses a row. Fractions are
            exact: sy * H must be whole. Where both make the same size, they make the same pixels.
        quarter_turns: clockwise turns of 90 degrees, any integer.
        interpolation: "bilinear" (as the released code) or "bicubic" (as the paper states).
        flip: left to right, before the turns.
    """

    scale: tuple[Factor, Factor] = (1.0, 1.0)
    quarter_turns: int = 0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, *output_size(H, W)].

        Raises:
            ValueError: where a fraction makes no whole number of pixels.
        """
        if self.scale != (1.0, 1.0):
            exact = all(isinstance(factor, Fraction) for factor in self.scale)
            size = self._scaled_size(x.shape[-2], x.shape[-1]) if exact else None
            factors = None if exact else tuple(map(float, self.scale))
            x = F.interpolate(x, size, factors, mode=self.interpolation, align_corners=False)
        if self.flip:
            x = x.flip(-1)
        return x.rot90(self.quarter_turns % 4, dims=(-1, -2))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Size of the transformed image of a height x width one."""
        rows, columns = self._scaled_size(height, width)
        return (rows, columns) if self.quarter_turns % 2 == 0 else (columns, rows)

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        for side, factor in zip((height, width), self.scale, strict=True):
            if isinstance(factor, Fraction) and (side * factor).denominator != 1:
                raise ValueError(f"{factor} of {side} pixels is no whole number: use sides that it divides")
        return int(height * self.scale[0]), int(width * self.scale[1])

    def then(self, other: "SpatialTransform") -> "SpatialTransform":
        """The single transform equal to this one followed by `other` (exact on the grid; scaling resamples once)."""
        sy, sx = other.scale if self.quarter_turns % 2 == 0 else other.scale[::-1]
        scale = (self.scale[0] * sy, self.scale[1] * sx)
        # A flip after k turns is the flip followed by -k turns.
        turns = -self.quarter_turns if other.flip else self.quarter_turns
        quarter_turns = (turns + other.quarter_turns) % 4
        return SpatialTransform(scale, quarter_turns, self.interpolation, self.flip != other.flip)

    def inverse(self) -> "SpatialTransform":
        """Turns and flips back, then scales back: exact for turns and flips, up to resampling for scales."""
        sy, sx = self.scale if self.quarter_turns % 2 == 0 else self.scale[::-1]
        turns = self.quarter_turns if self.flip else -self.quarter_turns  # a flipped turn is its own inverse
        return SpatialTransform((1 / sy, 1 / sx), turns % 4, self.interpolation, self.flip)


def measured_transforms(
    latent_size: tuple[int, int], scales: Sequence[float] = MEASURED_SCALES, smallest_side: int = 1
) -> dict[str, SpatialTransform]:
    """The paper's probes, one at a time: turns of 90, 180, 270 degrees and the scales that fit the latent grid.

    Args:
        latent_size: (height, width) of the untransformed latent.
        scales: to choose from.
        smallest_side: rows that a scaled latent must have left.
    """
    turns = {f"rotation {90 * k}": SpatialTransform(quarter_turns=k) for k in QUARTER_TURNS}
    side = math.gcd(*latent_size)  # what fits it fits both
    fitting = [s for s in scales if (side * s).is_integer() and min(latent_size) * s >= smallest_side]
    return turns | {f"scale {s:.2f}": SpatialTransform((s, s)) for s in fitting}


@torch.no_grad()
def equivariance_errors(autoencoder: Autoencoder, images: Tensor) -> dict[str, dict[str, Tensor]]:
    """How far latents are from transforming as images do, per probe, one value per image.

    Squared norms, with E the posterior mean, of an autoencoder with a codebook the features that are quantized (EQ-VAE,
    section 3). The latent error is
    ``(T E(x) - E(T x))^2 / E(T x)^2``, the decoded one ``(D(T E(x)) - T x)^2 / (T x)^2``, which training drives down.

    Args:
        autoencoder: of one that makes images of one side (`one_size`), turns alone are measured; of one that pads by
            reflection no scale that leaves a single row, which has nothing to reflect.
        images: [B, 3, H, W] in [-1, 1].

    Returns:
        {"latent": {probe: [B]}, "decoded": {probe: [B]}}, probes named as by `measured_transforms`.
    """
    latents = autoencoder.posterior(images).mean
    errors: dict[str, dict[str, Tensor]] = {"latent": {}, "decoded": {}}
    scales = () if getattr(autoencoder, "one_size", False) else MEASURED_SCALES  # of anything that encodes and decodes
    smallest = getattr(autoencoder, "smallest_latent_side", 1)
    for name, transform in measured_transforms((latents.shape[-2], latents.shape[-1]), scales, smallest).items():
        transformed_image, transformed_latents = transform(images), transform(latents)
        expected = autoencoder.posterior(transformed_image).mean
        errors["latent"][name] = relative_square(transformed_latents, expected)
        decoded = autoencoder.transformed_decode(transformed_latents).images
        errors["decoded"][name] = relative_square(decoded, transformed_image)
    return errors


def relative_square(actual: Tensor, expected: Tensor) -> Tensor:
    """``|a - e|^2 / |e|^2`` of each of [B, ...], as [B] float32."""
    difference = (actual.float() - expected.float()).flatten(1).square().sum(1)
    return difference / expected.float().flatten(1).square().sum(1).clamp_min(1e-12)

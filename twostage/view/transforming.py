"""A transform of one image and of its latents, and what several autoencoders make of it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.data.images import to_uint8
from eqvae.equivariance import SpatialTransform, relative_square
from eqvae.evaluation.image_grids import LatentColours
from eqvae.precision import at_least_float32
from eqvae.regularizers.shift import fractional_shift, stayed_inside

ROUNDING = 1e-4  # of a mask of ones that was resized
SMALLEST_SCALE, LARGEST_SCALE = Fraction(1, 4), Fraction(2)


@dataclass(frozen=True)
class SharedTransform:
    """Shift around the edges, resize, then turn clockwise; an image by whole pixels, its latents by their f-th.

    Args:
        shift: (down, right) in pixels of the image.
        scale: of both sides; what it makes of them must be whole.
        quarter_turns: of 90 degrees, any integer.
    """

    shift: tuple[int, int] = (0, 0)
    scale: Fraction = Fraction(1)
    quarter_turns: int = 0

    def on_images(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to the size that the scale makes.

        Raises:
            ValueError: where the scale makes no whole number of pixels.
        """
        return self._spatial(images.roll(self.shift, (-2, -1)))

    def on_latents(self, latents: Tensor, factor: int) -> Tensor:
        """[B, C, h, w] of images whose sides are `factor` times as long.

        Raises:
            ValueError: where the scale makes no whole number of rows.
        """
        return self._spatial(fractional_shift(latents, self._over(factor)) if any(self.shift) else latents)

    def kept(self, like: Tensor, factor: int = 1) -> Tensor:
        """[H', W'] of 1 where nothing came around an edge, else 0.

        Args:
            like: [B, C, H, W] before the transform, images or latents.
            factor: image side over side of `like`.
        """
        inside = stayed_inside((like.shape[-2], like.shape[-1]), self._over(factor), like)
        return (self._spatial(inside[None, None])[0, 0] > 1 - ROUNDING).to(like.dtype)

    def _over(self, factor: int) -> tuple[float, float]:
        down, right = self.shift
        return down / factor, right / factor

    def _spatial(self, x: Tensor) -> Tensor:
        return SpatialTransform((self.scale, self.scale), self.quarter_turns)(x)


@dataclass(frozen=True)
class Transformed:
    """What one autoencoder makes of a transform T of an image x.

    Args:
        decoded: D(T E(x)), uint8 [3, H, W].
        transformed_latents: T E(x) in colours, uint8 [3, h, w].
        expected_latents: E(T x) in the same colours, uint8 [3, h, w].
        decoded_error: ``|D(T E(x)) - T x|^2 / |T x|^2``.
        latent_error: ``|T E(x) - E(T x)|^2 / |E(T x)|^2``. Neither counts what a shift brought around an edge; where
            nothing else is left, it is NaN.
    """

    decoded: Tensor
    transformed_latents: Tensor
    expected_latents: Tensor
    decoded_error: float
    latent_error: float


@torch.inference_mode()
def transform_image(
    autoencoders: Mapping[str, Autoencoder], image: Tensor, transform: SharedTransform
) -> tuple[Tensor, dict[str, Transformed]]:
    """The transformed image, and beside it what each autoencoder decodes from its transformed latents.

    Args:
        autoencoders: by their names; each computes where its weights lie.
        image: [3, H, W] in [-1, 1].
        transform: acts alike on the image and on all latents.

    Returns:
        T x as uint8 [3, H', W'], and one result for each name.

    Raises:
        ValueError: where the scale makes no whole number of pixels, of the image or of a latent.
    """
    images = image[None]
    shown = to_uint8(transform.on_images(images))[0]
    return shown, {name: _transform(each, images, transform) for name, each in autoencoders.items()}


def _transform(autoencoder: Autoencoder, images: Tensor, transform: SharedTransform) -> Transformed:
    factor = autoencoder.posterior_factor
    images = images.to(autoencoder.last_layer.device)
    expected = transform.on_images(images)
    latents = at_least_float32(autoencoder.posterior(images).mean)
    moved = transform.on_latents(latents, factor)
    expected_latents = at_least_float32(autoencoder.posterior(expected).mean)
    decoded = at_least_float32(autoencoder.transformed_decode(moved).images)
    colours = LatentColours(latents)
    return Transformed(
        to_uint8(decoded)[0].cpu(),
        colours(moved)[0].cpu(),
        colours(expected_latents)[0].cpu(),
        _error(decoded, expected, transform.kept(images)),
        _error(moved, expected_latents, transform.kept(latents, factor)),
    )


def _error(actual: Tensor, expected: Tensor, kept: Tensor) -> float:
    return float(relative_square(actual * kept, expected * kept)) if kept.any() else math.nan


def common_scales(autoencoders: Iterable[Autoencoder], side: int) -> list[Fraction]:
    """Scales from 1/4 to 2 that make whole sides of an image and of all its latents, in equal steps.

    Args:
        autoencoders: each at a side that its downsampling factor divides.
        side: of the square image.

    Raises:
        ValueError: where not even the image as it is can be decoded, since its latents are too small.
    """
    autoencoders = list(autoencoders)
    steps = math.gcd(*(side // each.posterior_factor for each in autoencoders))
    scales = [Fraction(count, steps) for count in range(1, math.floor(LARGEST_SCALE * steps) + 1)]
    fitting = [scale for scale in scales if scale >= SMALLEST_SCALE and _decodes(autoencoders, side * scale)]
    if 1 not in fitting:
        raise ValueError(f"images of side {side} are too small for these autoencoders: make them larger")
    return fitting


def _decodes(autoencoders: Iterable[Autoencoder], side: Fraction) -> bool:
    return all(side / each.posterior_factor >= each.smallest_latent_side for each in autoencoders)

"""Equivariance of encoder and decoder to shifts, also by fractions of a latent pixel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqvae.autoencoders import Term
from eqvae.precision import at_least_float32
from eqvae.regularizers.base import Action, LatentRegularizer, Pass, Passes, StepKey

NAME = "shift"


def fractional_shift(x: Tensor, shift: tuple[float, float]) -> Tensor:
    """[B, C, H, W] moved down and right by (y, x) pixels around its edges, by phases of its Fourier series.

    Whole shifts are those of `torch.roll`. Of even sides the highest frequency has but one phase: where it is not
    empty, two shifts after each other are not quite their sum.
    """
    for dim, distance in zip((-2, -1), shift, strict=True):
        x = _shift_along(x, dim, distance)
    return x


def _shift_along(x: Tensor, dim: int, distance: float) -> Tensor:
    x = at_least_float32(x)
    side = x.shape[dim]
    frequencies = torch.fft.rfftfreq(side, device=x.device, dtype=x.dtype)
    phases = torch.exp(-2j * torch.pi * frequencies * distance)
    phases = phases[:, None] if dim == -2 else phases
    return torch.fft.irfft(torch.fft.rfft(x, dim=dim) * phases, n=side, dim=dim)


def stayed_inside(size: tuple[int, int], shift: tuple[float, float], like: Tensor) -> Tensor:
    """[H, W] of 1 where a shifted image of this size shows what was inside before, else 0."""
    inside = []
    for side, distance in zip(size, shift, strict=True):
        origin = torch.arange(side, device=like.device, dtype=like.dtype) - distance
        inside.append(((origin > -1e-4) & (origin < side - 1 + 1e-4)).to(like.dtype))
    return inside[0][:, None] * inside[1]


def masked_square(actual: Tensor, expected: Tensor, shift: tuple[float, float]) -> Tensor:
    """Mean squared difference of [B, C, H, W] where a shift brings nothing around the edge."""
    height, width = actual.shape[-2:]
    mask = stayed_inside((height, width), shift, expected)
    squares = (at_least_float32(actual) - expected).square().mean((0, 1))
    return (squares * mask).sum() / mask.sum().clamp_min(1)


@dataclass(frozen=True)
class ShiftError(Action):
    """Adds the errors of encoder and decoder under a shift by shares (y, x) in (-1, 1) of the largest one."""

    shares: tuple[float, float]
    largest: float
    weight: float

    def terms(self, step: Pass) -> list[Term]:
        autoencoder, result = step.autoencoder, step.result
        factor = autoencoder.posterior_factor
        down, right = self._pixels(result.encoded)
        on_latents = (down / factor, right / factor)
        moved = autoencoder.posterior(result.encoded.roll((down, right), (-2, -1))).mean
        encoder = masked_square(moved, fractional_shift(result.posterior.mean.detach(), on_latents), on_latents)
        down, right = self._pixels(result.images)
        moved_latents = fractional_shift(result.acted.detach(), (down / factor, right / factor))
        decoded = autoencoder.transformed_decode(moved_latents).images
        decoder = masked_square(
            decoded, at_least_float32(result.images.detach().roll((down, right), (-2, -1))), (down, right)
        )
        return [Term(f"{NAME}_encoder", encoder, self.weight), Term(f"{NAME}_decoder", decoder, self.weight)]

    def _pixels(self, images: Tensor) -> tuple[int, int]:
        """(y, x) in whole pixels of images [B, 3, H, W]."""
        down, right = (
            round(share * int(self.largest * side / 2))
            for share, side in zip(self.shares, images.shape[-2:], strict=True)
        )
        return down, right


class FractionalShift(LatentRegularizer):
    """``|E(T x) - sg T z|^2 + |D(T sg z) - sg T D(z)|^2``.

    T moves images by whole pixels, latents by as many f-ths of theirs; sg stops gradients.

    Source: AF-LDM, arXiv 2503.09419, which trains it with alias-free layers, in which fractions make sense, beside a
    reconstruction loss that is a mean over pixels and without a critic. Squares are means over where nothing came
    around an edge; there images go around, too (the source has 0 there). What was decoded is moved, after all actions
    on latents. On a VQ autoencoder it acts on features.

    Args:
        weight: of both terms, 1 in the source.
        largest: shift, in half sides; 0.75 in the source.

    Raises:
        ValueError: for a shift by more than half a side.
    """

    name = NAME

    def __init__(self, weight: float = 1.0, largest: float = 0.75):
        super().__init__()
        if not 0 < largest <= 1:
            raise ValueError(f"{NAME}: largest must lie in (0, 1], got {largest}")
        self.weight, self.largest = weight, largest

    def draw(self, key: StepKey) -> ShiftError:
        rng = key.generator(NAME)
        return ShiftError((rng.uniform(-1, 1), rng.uniform(-1, 1)), self.largest, self.weight)

    def extra_passes(self) -> Passes:
        return Passes(encoder=1.0, decoder=1.0)

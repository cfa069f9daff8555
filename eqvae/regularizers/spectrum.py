"""Spectrum matching: latents whose frequencies fall off as those of images do, flattened by one power.

Source of both methods: "Spectrum matching", arXiv 2603.14645. They stand on the orthonormal DCT-II.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.autoencoders import Autoencoder, Term
from eqvae.precision import at_least_float32
from eqvae.regularizers.base import Action, LatentRegularizer, Pass, StepKey
from eqvae.regularizers.measuring import channel_statistics, require_trained_encoder

ENCODING, DECODING = "spectrum", "low_pass"
BINS, BLOCK, SMALLEST = 16, 8, 1e-12


def dct_matrix(side: int, like: Tensor) -> Tensor:
    """Orthonormal DCT-II [side, side], frequencies in rows, of the device and type of `like`."""
    place = torch.arange(side, device=like.device, dtype=like.dtype)
    matrix = torch.cos(math.pi / side * place[:, None] * (place + 0.5)) * math.sqrt(2 / side)
    matrix[0] = math.sqrt(1 / side)
    return matrix


def dct(x: Tensor) -> Tensor:
    """Coefficients [..., h, w] of [..., h, w], at least float32 also below autocast."""
    x = at_least_float32(x)
    with torch.autocast(x.device.type, enabled=False):
        return dct_matrix(x.shape[-2], x) @ x @ dct_matrix(x.shape[-1], x).T


def inverse_dct(coefficients: Tensor) -> Tensor:
    """What `dct` takes, of what it gives."""
    with torch.autocast(coefficients.device.type, enabled=False):
        rows, columns = (dct_matrix(side, coefficients) for side in coefficients.shape[-2:])
        return rows.T @ coefficients @ columns


def radial_power(x: Tensor) -> Tensor:
    """Mean power [B, 16] of [B, C, h, w] over channels and the frequencies of a ring, without the spatial mean.

    Rings are equally wide up to the highest frequency of both axes together; of small sides some are empty, and 0.
    """
    power = dct(x).square().mean(1)  # [B, h, w]
    height, width = power.shape[-2:]
    rows, columns = (torch.arange(side, device=x.device, dtype=power.dtype) for side in (height, width))
    radius = (rows[:, None].square() + columns.square()).sqrt()
    bins = (BINS * radius / radius.max().clamp_min(1)).long().clamp_max(BINS - 1).flatten()
    without_mean = power.flatten(1) * (radius.flatten() > 0)
    sums = power.new_zeros(len(x), BINS).index_add(1, bins, without_mean)
    # Not torch.bincount, which waits for a CUDA device.
    counts = power.new_zeros(BINS).index_add(0, bins, torch.ones_like(radius).flatten())
    return sums / counts.clamp_min(1)


def shares(power: Tensor) -> Tensor:
    """log(1 + s) of each ring, in sum 1: [B, 16] of [B, 16]; all 0 where there is no power."""
    logarithms = power.log1p()
    return logarithms / logarithms.sum(1, keepdim=True).clamp_min(SMALLEST)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images [B, 3, H, W] under a Gaussian of 7 x 7 pixels; sigma 0 leaves them."""
    if not sigma:
        return images
    place = torch.arange(-3, 4, device=images.device, dtype=images.dtype)
    weights = torch.softmax(-place.square() / (2 * sigma**2), 0)
    kernel = (weights[:, None] * weights).expand(images.shape[1], 1, 7, 7)
    return F.conv2d(F.pad(images, (3, 3, 3, 3), mode="replicate"), kernel, groups=images.shape[1])


@dataclass(frozen=True)
class SpectrumError(Action):
    """Adds the divergence of the latents' spectrum from that of the small image."""

    weight: float
    delta: float
    blur: float
    normalize: bool

    def terms(self, step: Pass) -> list[Term]:
        latents, images = at_least_float32(step.result.latents), at_least_float32(step.result.encoded)
        if self.normalize:
            mean, std = channel_statistics(latents)
            latents = (latents - mean) / std
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            small = F.interpolate(blurred(images, self.blur), latents.shape[-2:], mode="bicubic", align_corners=False)
            ring = torch.arange(1, BINS + 1, device=images.device)
            expected = shares(radial_power(small) * ring**self.delta)
        actual = shares(radial_power(latents))
        ratio = expected.clamp_min(SMALLEST).log() - actual.clamp_min(SMALLEST).log()
        return [Term(ENCODING, (expected * ratio).sum(1).mean(), self.weight)]


class SpectrumMatching(LatentRegularizer):
    """ESM, encoding spectrum matching: ``sum_b p_x log(p_x / p_z)`` over 16 rings of frequencies.

    p is log(1 + s) in sum 1, for the mean power s of a ring: of the latent, and of the image at the latent's size times
    b^delta in ring b. Spatial means do not count. In the paper it stands in place of the KL divergence
    (`kl_weight: 0`), beside a reconstruction loss that is a mean over pixels.

    Args:
        weight: 0.01 in the paper.
        delta: flattening: 1, the paper's, makes 1 / f of the 1 / f^2 of images.
        blur: standard deviation in pixels of a Gaussian on images before they are made small; the paper has 0 for
            latents of 32 x 32.
        normalize: give each channel of the batch the std 1 first. The paper's code does not; log(1 + s) then depends
            on the latent's scale, which fine-tuning may change for it.

    Raises:
        ValueError: by `prepare`, for an encoder that does not train.
    """

    name = ENCODING

    def __init__(self, weight: float = 0.01, delta: float = 1.0, blur: float = 1.2, normalize: bool = False):
        super().__init__()
        self.action = SpectrumError(weight, delta, blur, normalize)

    def prepare(self, autoencoder: Autoencoder) -> None:
        require_trained_encoder(autoencoder, ENCODING)

    def draw(self, key: StepKey) -> SpectrumError:
        return self.action


def low_pass(x: Tensor, removed: int) -> Tensor:
    """[B, C, H, W] without the coefficients u + v >= 15 - `removed` of the DCT of its blocks of 8 x 8.

    Shorter blocks at the lower and right edge lose the same share of their frequencies.
    """
    rows, columns = (side - side % BLOCK for side in x.shape[-2:])
    bands = [band.tensor_split([columns], dim=-1) for band in x.tensor_split([rows], dim=-2)]
    return torch.cat([torch.cat([_low_pass_blocks(part, removed) for part in band], dim=-1) for band in bands], dim=-2)


def _low_pass_blocks(x: Tensor, removed: int) -> Tensor:
    """The same of an image whose sides are whole numbers of blocks, or shorter than one."""
    if not x.numel():
        return at_least_float32(x)
    height, width = (min(side, BLOCK) for side in x.shape[-2:])
    blocks = x.unflatten(-1, (-1, width)).unflatten(-3, (-1, height)).transpose(-3, -2)  # [B, C, rows, columns, 8, 8]
    u, v = (torch.arange(side, device=x.device) for side in (height, width))
    kept = BLOCK * (u[:, None] * width + v * height) < (2 * BLOCK - 1 - removed) * height * width
    passed = inverse_dct(dct(blocks) * kept)
    return passed.transpose(-3, -2).flatten(-2).flatten(-3, -2)


@dataclass(frozen=True)
class LowPass(Action):
    """Decodes latents without their high frequencies, to images without theirs."""

    removed: int

    def on_latents(self, latents: Tensor) -> Tensor:
        return low_pass(latents, self.removed) if self.removed else latents

    def on_target(self, images: Tensor) -> Tensor:
        return low_pass(images, self.removed) if self.removed else images


class DecodingSpectrumMatching(LatentRegularizer):
    """DSM: decodes the low-passed latent to the low-passed image; a step draws how much of both is taken away.

    The DCT is that of 8 x 8 blocks of both, so that an image loses frequencies relative to blocks f times smaller on it
    than those of its latent. In the paper `kl_weight` is 0.

    Args:
        removed: m, of which each step draws one: coefficients u + v >= 15 - m are zeroed, of 64 none, 36, 49 and 58 for
            the paper's 0, 8, 10 and 12.

    Raises:
        ValueError: for m outside 0 ... 14.
    """

    name = DECODING

    def __init__(self, removed: Sequence[int] = (0, 8, 10, 12)):
        super().__init__()
        if not removed or not all(0 <= each <= 14 for each in removed):
            raise ValueError(f"{DECODING}: removed {list(removed)}: give whole numbers in 0 ... 14")
        self.removed = tuple(removed)

    def draw(self, key: StepKey) -> LowPass:
        return LowPass(key.generator(DECODING).choice(self.removed))

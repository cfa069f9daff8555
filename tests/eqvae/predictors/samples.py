"""Latent samples whose answers are known, and stand-ins for autoencoder and feature network."""

import torch
from torch import Tensor

from eqvae.data import to_uint8
from eqvae.evaluation.predictors import LatentSample


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def block_means(images: Tensor) -> Tensor:
    """Stand-in for a feature network: uint8 [B, 3, S, S] to the means of nine blocks, [B, 27]."""
    return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 3).flatten(1)


def orthogonal(size: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(size, size, seed=seed).double()).Q.float()


def random_sample(count: int = 60, channels: int = 4, side: int = 8, seed: int = 0) -> LatentSample:
    """Random latents of three classes with all that predictors ask for; the autoencoder averages 2 x 2 blocks."""
    mixing = orthogonal(3)

    def encode(images: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", mixing, torch.nn.functional.avg_pool2d(images, 2))

    def decode(latents: Tensor) -> Tensor:
        images = torch.einsum("ji,bjhw->bihw", mixing, latents[:, :3])
        return torch.nn.functional.interpolate(images, scale_factor=2).clamp(-1, 1)

    images = to_uint8(normal(count, 3, 2 * side, 2 * side, seed=seed + 1).clamp(-1, 1))
    return LatentSample(
        normal(count, channels, side, side, seed=seed),
        image_size=2 * side,
        labels=torch.arange(count) % 3,
        masks=normal(count, side, side, seed=seed + 2) > 0,
        noise=torch.rand(channels, side, side, generator=torch.Generator().manual_seed(seed)),
        rate=torch.rand(channels, generator=torch.Generator().manual_seed(seed)),
        images=images[: count // 2],
        encode=encode,
        decode=decode,
        features=block_means(images),
        extract=block_means,
    )

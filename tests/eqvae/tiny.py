"""The smallest autoencoders and images that the tests of stage 1 share."""

from types import SimpleNamespace

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder, KLAutoencoder, load_autoencoder


def tiny_autoencoder(factor: int = 4, seed: int = 0) -> KLAutoencoder:
    """Random weights, 4 latent channels; milliseconds on a CPU."""
    levels = factor.bit_length()
    config = {
        "block_out_channels": [8] * levels,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "mid_block_add_attention": False,
    }
    return load_autoencoder(config, seed).freeze()


def smooth_images(side: int) -> Tensor:
    """[2, 3, side, side] of slow waves, the same scene at every side."""
    grid = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    waves = [
        torch.sin(a * x + b * y + c) for a, b, c in ((2, 1, 0), (1, 3, 1), (3, -1, 2), (0, 2, 3), (2, 2, 4), (1, 0, 5))
    ]
    return torch.stack(waves).view(2, 3, side, side)


class MixingAutoencoder:
    """Mixes channels at every pixel by an orthogonal matrix, hence commutes with every transform."""

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.matrix = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q

    def encode(self, images: Tensor) -> SimpleNamespace:
        mean = torch.einsum("ij,bjhw->bihw", self.matrix, images)
        return SimpleNamespace(mean=mean, std=torch.full_like(mean, 0.5))

    def posterior(self, images: Tensor) -> SimpleNamespace:
        return self.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.einsum("ji,bjhw->bihw", self.matrix, latents)

    sample = KLAutoencoder.sample
    latent_moments, transformed_decode = Autoencoder.latent_moments, Autoencoder.transformed_decode

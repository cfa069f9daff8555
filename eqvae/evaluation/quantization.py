"""Latents of images, for measurements."""

from torch import Tensor

from eqvae.autoencoders import Autoencoder


def images_to_latents(autoencoder: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [B, C, h, w] of the raw latents of images [B, 3, H, W]."""
    return autoencoder.latent_moments(images)

"""Autoencoders behind one small interface: encode to a posterior or to codes, decode latents, save for diffusers.

`load_autoencoder` is the one way in: a hub id, a diffusers folder, a single file in the layout of diffusers,
latent-diffusion or taming, the name of a packaged autoencoder, or a configuration (random weights). What comes out
carries its latent normalization and its fingerprint, so that caches and generators can tell whether they belong to it.
"""

from eqvae.autoencoders.kl import KLAutoencoder
from eqvae.autoencoders.loading import load_autoencoder, source_file
from eqvae.autoencoders.normalization import LatentStatistics, Normalization
from eqvae.autoencoders.vq import Codes, VQAutoencoder

__all__ = [
    "Codes",
    "KLAutoencoder",
    "LatentStatistics",
    "Normalization",
    "VQAutoencoder",
    "load_autoencoder",
    "source_file",
]

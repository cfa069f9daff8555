"""Autoencoders behind one small interface: encode to a posterior, decode latents, save as diffusers reads it.

`load_autoencoder` is the one way in: a hub id, a diffusers folder, the name of a packaged autoencoder, or a
configuration (random weights). What comes out carries its latent normalization and its fingerprint, so that caches
and generators can tell whether they belong to it.
"""

from eqvae.autoencoders.kl import KLAutoencoder
from eqvae.autoencoders.loading import load_autoencoder
from eqvae.autoencoders.normalization import LatentStatistics, Normalization

__all__ = ["KLAutoencoder", "LatentStatistics", "Normalization", "load_autoencoder"]

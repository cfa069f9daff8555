"""Autoencoders behind one interface, `Autoencoder`: encode to a posterior or to codes, decode, save for diffusers.

`load_autoencoder` is the one way in: a hub id, a diffusers folder, a single file in the layout of diffusers,
latent-diffusion or taming, the name of a packaged autoencoder, or a configuration (random weights). What comes out
carries its latent normalization and its fingerprint, so that caches and generators can tell whether they belong to it.
"""

from eqvae.autoencoders.base import Autoencoder
from eqvae.autoencoders.encodings import Codes, Decoded, PointPosterior, Posterior
from eqvae.autoencoders.frames import FrameAutoencoder, PointFrameAutoencoder
from eqvae.autoencoders.kl import KLAutoencoder
from eqvae.autoencoders.latent_losses import CodebookLoss, LatentLoss, Term, codebook_usage
from eqvae.autoencoders.loading import load_autoencoder, source_file
from eqvae.autoencoders.normalization import LatentStatistics, Normalization
from eqvae.autoencoders.packed import PackedAutoencoder
from eqvae.autoencoders.points import FeatureAutoencoder, PointAutoencoder
from eqvae.autoencoders.vq import VQAutoencoder

__all__ = [
    "Autoencoder",
    "CodebookLoss",
    "Codes",
    "Decoded",
    "FeatureAutoencoder",
    "FrameAutoencoder",
    "KLAutoencoder",
    "LatentLoss",
    "LatentStatistics",
    "Normalization",
    "PackedAutoencoder",
    "PointAutoencoder",
    "PointFrameAutoencoder",
    "PointPosterior",
    "Posterior",
    "Term",
    "VQAutoencoder",
    "codebook_usage",
    "load_autoencoder",
    "source_file",
]

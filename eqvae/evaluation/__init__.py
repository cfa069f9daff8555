"""Measurements of both stages: features, distances between sets of them, reconstructions, latent spaces, pictures.

Functions are named input_to_output or after what they return, and take matrices or pictures, never models, but for
`autoencoder`, which runs all measurements of stage 1 in one pass.
"""

from eqvae.evaluation.distances import frechet_distance, kernel_distance, precision_recall
from eqvae.evaluation.features import METRIC_NAMES, create_extractor, images_to_features
from eqvae.evaluation.latents import effective_rank, high_frequency_share, intrinsic_dimension

__all__ = [
    "METRIC_NAMES",
    "create_extractor",
    "effective_rank",
    "frechet_distance",
    "high_frequency_share",
    "images_to_features",
    "intrinsic_dimension",
    "kernel_distance",
    "precision_recall",
]

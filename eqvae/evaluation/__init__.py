"""Measurements of both stages: features, distances between sets of them, reconstructions, latent spaces, images.

Functions are named input_to_output or after what they return, and take matrices or images, never models, but for
`autoencoder`, which runs all measurements of stage 1 in one pass, and the panel in `images`.
"""

from eqvae.evaluation.distances import (
    features_to_statistics,
    frechet_distance,
    kernel_distance,
    precision_recall,
    statistics_to_frechet_distance,
)
from eqvae.evaluation.features import create_extractor, images_to_features
from eqvae.evaluation.latents import (
    effective_rank,
    high_frequency_share,
    intrinsic_dimension,
    radial_power_spectrum,
)
from eqvae.evaluation.metric import EXTRACTORS, Metric
from eqvae.evaluation.reconstruction import ReconstructionMetrics, images_to_psnr, images_to_ssim

__all__ = [
    "EXTRACTORS",
    "Metric",
    "ReconstructionMetrics",
    "create_extractor",
    "effective_rank",
    "features_to_statistics",
    "frechet_distance",
    "high_frequency_share",
    "images_to_features",
    "images_to_psnr",
    "images_to_ssim",
    "intrinsic_dimension",
    "kernel_distance",
    "precision_recall",
    "radial_power_spectrum",
    "statistics_to_frechet_distance",
]

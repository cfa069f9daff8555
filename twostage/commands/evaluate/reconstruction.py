"""`reconstruction`: how well an autoencoder gives its images back."""

import argparse

from eqvae.autoencoders import Autoencoder
from eqvae.data import ImageSource
from eqvae.evaluation.measuring import measure_reconstruction
from twostage.commands.evaluate.autoencoders import measure_all


def measure_reconstructions(arguments: argparse.Namespace) -> dict:
    if arguments.lpips_weights is not None and not arguments.perceptual.startswith("lpips"):
        raise ValueError(f"--lpips-weights {arguments.lpips_weights}: --perceptual {arguments.perceptual} needs none")
    return measure_all(arguments, _measure)


def _measure(autoencoder: Autoencoder, source: ImageSource, arguments: argparse.Namespace) -> dict:
    return measure_reconstruction(
        autoencoder,
        source,
        num_images=arguments.num_images,
        extractor=arguments.extractor,
        extractor_weights=arguments.extractor_weights,
        perceptual=arguments.perceptual,
        perceptual_weights_file=arguments.lpips_weights,
        uint8_rule=arguments.uint8_rule,
        num_workers=arguments.num_workers,
        data=arguments.data,
    )

"""`latents`: what a latent space is like, and what that may say of how well a generator will learn on it."""

import argparse

from eqvae.autoencoders import Autoencoder
from eqvae.data import ImageSource
from eqvae.evaluation.measuring import measure_latents
from twostage.commands.evaluate.autoencoders import measure_all


def measure_latent_spaces(arguments: argparse.Namespace) -> dict:
    return measure_all(arguments, _measure)


def _measure(autoencoder: Autoencoder, source: ImageSource, arguments: argparse.Namespace) -> dict:
    return measure_latents(
        autoencoder,
        source,
        num_images=arguments.num_images,
        predictors=arguments.predictors,
        num_workers=arguments.num_workers,
        data=arguments.data,
    )

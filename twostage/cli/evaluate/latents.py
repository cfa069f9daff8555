"""`latents`: what a latent space is like, and what that may say of how well a generator will learn on it."""

import argparse
from typing import Any

from eqvae.autoencoders import Autoencoder
from eqvae.data import ImageSource
from eqvae.evaluation.measuring import measure_latents
from eqvae.evaluation.predictors import PREDICTORS
from twostage.cli.evaluate.autoencoders import add_autoencoders
from twostage.cli.evaluate.options import add_command


def add_to(commands: Any) -> None:
    sub = add_command(commands, "latents", "equivariance errors, dimension, rank, spectrum, scale of a latent space")
    add_autoencoders(sub, _measure)
    sub.add_argument("--predictors", nargs="+", default=["all"], metavar="NAME", help="what may tell how well a "
                     f"generator will learn: all (default), none, or some of {', '.join(PREDICTORS)}")  # fmt: skip


def _measure(autoencoder: Autoencoder, source: ImageSource, arguments: argparse.Namespace) -> dict:
    return measure_latents(
        autoencoder,
        source,
        num_images=arguments.num_images,
        predictors=arguments.predictors,
        num_workers=arguments.num_workers,
        data=arguments.data,
    )

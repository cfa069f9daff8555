"""`latents`: what a latent space is like, and what that may say of how well a generator will learn on it."""

import argparse
from typing import Any

from eqvae.autoencoders import Autoencoder
from eqvae.data import ImageSource
from eqvae.evaluation.autoencoder import LatentMetrics
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample, choose_predictors, describe_sample, predict
from eqvae.evaluation.tables import directions
from eqvae.selection import describe_selection
from twostage.cli.evaluate.autoencoders import add_autoencoders
from twostage.cli.evaluate.options import add_command, conditions, requested_batches, with_spread


def add_to(commands: Any) -> None:
    sub = add_command(commands, "latents", "equivariance errors, dimension, rank, spectrum, scale of a latent space")
    add_autoencoders(sub, _measure)
    sub.add_argument("--predictors", nargs="+", default=["all"], metavar="NAME", help="what may tell how well a "
                     f"generator will learn: all (default), none, or some of {', '.join(PREDICTORS)}")  # fmt: skip


def _measure(autoencoder: Autoencoder, source: ImageSource, arguments: argparse.Namespace) -> dict:
    names = choose_predictors(arguments.predictors)
    metrics = LatentMetrics(expected_images=min(arguments.num_images or len(source), len(source)))
    for images in requested_batches(source, arguments):
        metrics.update(autoencoder, images)
    report = with_spread(metrics.compute(), metrics.standard_deviations())
    carried = autoencoder.normalization.to_dict()
    about = {"num_images": metrics.num_images, "images": describe_selection(arguments.num_images, len(source))}
    about |= metrics.selections() | {"normalization_method": carried["method"]}
    about |= {f"normalization_{name}": list(carried[name]) for name in ("shift", "scale")}
    report |= (
        _predictions(autoencoder, source, names, arguments)
        | metrics.curves()
        | about
        | conditions(arguments, arguments.image_size)
    )
    return report | {"directions": directions(report)}


def _predictions(
    autoencoder: Autoencoder, source: ImageSource, names: list[str] | None, arguments: argparse.Namespace
) -> dict[str, object]:
    if names == []:
        return {}
    sample = autoencoder_to_sample(autoencoder, source, arguments.num_images, arguments.num_workers, arguments.device)
    values, left_out = predict(sample, names)
    report: dict[str, object] = {**values, **describe_sample(sample, source)}
    return report | ({"left_out": left_out} if left_out else {})

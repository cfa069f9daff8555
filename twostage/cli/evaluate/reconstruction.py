"""`reconstruction`: how well an autoencoder gives its images back."""

import argparse
from typing import Any

import torch

from eqvae.autoencoders import Autoencoder
from eqvae.data import ImageSource
from eqvae.evaluation import ReconstructionMetrics
from eqvae.losses.perceptual import PERCEPTUAL_NAMES
from eqvae.selection import describe_selection
from twostage.cli.evaluate.autoencoders import add_autoencoders
from twostage.cli.evaluate.options import add_command, add_extractor, conditions, requested_batches, with_spread


def add_to(commands: Any) -> None:
    sub = add_command(commands, "reconstruction", "PSNR, SSIM, perceptual and Fréchet distance of reconstructions")
    add_autoencoders(sub, _measure)
    sub.add_argument("--uint8-rule", choices=["round", "truncate"], default="round", help="default round")
    sub.add_argument("--perceptual", choices=PERCEPTUAL_NAMES, default="efficientnet_lite0",
                     help="lpips_vgg in published tables (default %(default)s)")  # fmt: skip
    sub.add_argument("--lpips-weights", help="local torchvision backbone of LPIPS (default: downloaded)")
    add_extractor(sub, several=True)


def _measure(autoencoder: Autoencoder, source: ImageSource, arguments: argparse.Namespace) -> dict:
    settings = (arguments.extractor, arguments.extractor_weights, arguments.perceptual, arguments.lpips_weights)
    metrics = ReconstructionMetrics(*settings, uint8_rule=arguments.uint8_rule)
    for images in requested_batches(source, arguments):
        with torch.no_grad():
            latents, _ = autoencoder.latent_moments(images)
            metrics.update(images, autoencoder.decode(latents).float())
    report = with_spread(metrics.compute(), metrics.standard_deviations())
    about = {"extractor": ", ".join(arguments.extractor), "perceptual": arguments.perceptual}
    about["num_images"] = int(report["num_images"])
    about["images"] = describe_selection(arguments.num_images, len(source))
    return report | about | conditions(arguments, arguments.image_size)

"""`reconstruction`: how well an autoencoder gives its images back."""

import argparse
from typing import Any

from eqvae.autoencoders import Autoencoder
from eqvae.data import ImageSource
from eqvae.evaluation.measuring import measure_reconstruction
from eqvae.losses.perceptual import PERCEPTUAL_NAMES
from twostage.cli.evaluate.autoencoders import add_autoencoders
from twostage.cli.evaluate.options import add_command, add_extractor


def add_to(commands: Any) -> None:
    sub = add_command(commands, "reconstruction", "PSNR, SSIM, perceptual and Fréchet distance of reconstructions")
    add_autoencoders(sub, _measure)
    sub.add_argument("--uint8-rule", choices=["round", "truncate"], default="round", help="default round")
    sub.add_argument("--perceptual", choices=PERCEPTUAL_NAMES, default="efficientnet_lite0",
                     help="lpips_vgg in published tables (default %(default)s)")  # fmt: skip
    sub.add_argument("--lpips-weights", help="local torchvision backbone of LPIPS (default: downloaded)")
    add_extractor(sub, several=True)


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

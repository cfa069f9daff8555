"""Metrics of autoencoders, latents and samples: prints a table and can save it as JSON.

Images are given as `shapes:COUNT[:SEED]` or `scenes:COUNT[:SEED]` (procedural), `hub:OWNER/NAME[:SPLIT]`, a folder, a
parquet or tar file or glob, tar files by a range or address (`https://HOST/a-{000..099}.tar`), an .npz
of the ADM layout (arr_0 [N, H, W, 3]; as a reference also mu, sigma, mu_s, sigma_s), or (generation) the output folder
of sample.py.

Examples:
  reconstruction --autoencoder shapes-f4c8 --data shapes:500:1
  latents --autoencoder scenes-f4c8-control --autoencoder scenes-f4c8-eq --data scenes:500:1
  generation --generated samples/samples.npz --reference scenes:2000:1
"""

import argparse
from pathlib import Path
from typing import Any

from twostage.cli import choices
from twostage.cli.command import new_parser, start
from twostage.cli.options import IMAGES, add_device, add_file_family, add_public_family


def main() -> None:
    parser = new_parser(__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    for add_to in (_add_reconstruction, _add_latents, _add_generation, _add_alignment, _add_images):
        add_to(commands)
    start("evaluate", parser)


def _add_reconstruction(commands: Any) -> None:
    sub = _add(commands, "reconstruction", "PSNR, SSIM, perceptual and Fréchet distance of reconstructions")
    _add_autoencoders(sub)
    sub.add_argument("--uint8-rule", choices=["round", "truncate"], default="round", help="default %(default)s")
    sub.add_argument("--perceptual", choices=choices.PERCEPTUAL_DISTANCES, default="efficientnet_lite0",
                     help="lpips_vgg in published tables (default %(default)s)")  # fmt: skip
    sub.add_argument("--lpips-weights", help="local torchvision backbone of LPIPS (default: downloaded)")
    _add_extractor(sub, several=True)


def _add_latents(commands: Any) -> None:
    sub = _add(commands, "latents", "equivariance errors, dimension, rank, spectrum, scale of a latent space")
    _add_autoencoders(sub)
    sub.add_argument("--predictors", nargs="+", default=["all"], metavar="NAME", help="what may tell how well a "
                     "generator will learn: all (default), none, or some of "
                     f"{', '.join(choices.PREDICTORS)}")  # fmt: skip


def _add_generation(commands: Any) -> None:
    sub = _add(commands, "generation", "FID (FD), sFID, Inception score, KID, precision and recall of samples")
    sub.add_argument("--generated", required=True, help="samples: .npz, folder, parquet glob, sample.py's output")
    sub.add_argument("--reference", required=True, help="real images: the same, shapes:COUNT[:SEED], or an "
                     ".npz of statistics")  # fmt: skip
    sub.add_argument("--image-size", type=int, help="side after the centre crop (default: that of the samples)")
    sub.add_argument("--statistics-cache", type=Path, help="folder of reference statistics, kept once computed "
                     "(default: eqvae/statistics in the user's cache folder)")  # fmt: skip
    sub.add_argument("--score-order", choices=choices.SCORE_ORDERS, default="given", help="order of the samples when "
                     "the Inception score splits them: as they are, as ADM's evaluation does, or shuffled, as "
                     "torch-fidelity (default given)")  # fmt: skip
    sub.add_argument("--metrics", nargs="+", choices=choices.GENERATION_METRICS, metavar="NAME",
                     help=f"what is measured: {', '.join(choices.GENERATION_METRICS)} (default: all but fd_inf, the "
                     "Fréchet distance of infinitely many samples)")  # fmt: skip
    sub.add_argument("--compare-with", help="saved result of --output to set beside this one")
    _add_extractor(sub, several=False)


def _add_alignment(commands: Any) -> None:
    text = "CKNNA of each block of a generator with an encoder's features (REPA)"
    sub = _add(commands, "alignment", text, num_images=1000)
    add = sub.add_argument
    add("--checkpoint", required=True, help="generator: .ckpt of stage 2, or a public DiT, SiT or REPA")
    add_public_family(sub)
    add("--data", required=True, help=IMAGES)
    add("--encoder", choices=choices.ENCODERS, default="efficientnet_lite0", help="default %(default)s")
    add("--encoder-weights", help="local weights of the encoder (default: downloaded or packaged)")
    add("--times", type=float, nargs="+", default=[0.5], help="noise levels, 0 noise to 1 data (default 0.5)")
    add("--neighbours", type=int, default=10, help="neighbours that CKNNA compares (default %(default)s)")
    add("--seed", type=int, default=0, help="seed of the noise (default %(default)s)")
    add("--autoencoder", help="folder, file or hub id that encodes (default: the one named in the checkpoint)")
    add_file_family(sub, "--autoencoder-family")
    add("--projector-depth", type=int, help="block of the projector, of a checkpoint that does not tell (public REPA)")
    add("--figure", help="where to save a PNG of alignment over depth (default: not saved)")


def _add_images(commands: Any) -> None:
    text = "decode every image and name those that cannot be read; exit code 1 if there are any"
    sub = commands.add_parser("images", help=text, description=text)
    sub.add_argument("--data", required=True, help="images: folder, parquet or tar file or glob")
    sub.add_argument("--image-size", type=int, default=256, help="side after the centre crop (default %(default)s)")
    sub.add_argument("--num-threads", type=int, help="threads that decode side by side (default: one per processor)")
    sub.add_argument("--output", help="JSON file for what was found (default: printed only)")


def _add(commands: Any, name: str, text: str, num_images: int | None = None) -> argparse.ArgumentParser:
    """A subcommand that reads `num_images` images by default, or all."""
    sub = commands.add_parser(name, help=text, description=text)
    default = "all" if num_images is None else "%(default)s"
    sub.add_argument("--num-images", type=int, default=num_images,
                     help=f"read only so many, evenly spaced (default {default})")  # fmt: skip
    sub.add_argument("--num-workers", type=int, default=0, help="processes that decode images (default 0)")
    add_device(sub)
    sub.add_argument("--output", help="JSON file for the numbers (default: printed only)")
    return sub


def _add_autoencoders(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--autoencoder", required=True, action="append", help="folder, hub id or packaged name "
                     "(shapes-f4c8); given twice, two are compared side by side")  # fmt: skip
    add_file_family(sub, several=True)
    sub.add_argument("--data", required=True, help=IMAGES)
    sub.add_argument("--image-size", type=int, default=32, help="side after the centre crop (default 32)")
    sub.add_argument("--figure", help="where to save a PNG of latents and their transforms (default: not saved)")


def _add_extractor(sub: argparse.ArgumentParser, several: bool) -> None:
    text = "features of the Fréchet distance (default efficientnet_lite0)"
    text += "; several may be named" if several else ""
    default = ["efficientnet_lite0"] if several else "efficientnet_lite0"
    number = "+" if several else None
    sub.add_argument("--extractor", choices=choices.EXTRACTORS, help=text, nargs=number, default=default)
    sub.add_argument("--extractor-weights", help="local weights of Inception-v3 or DINOv2 (default: downloaded)")

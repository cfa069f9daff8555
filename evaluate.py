"""Metrics: `evaluate.py reconstruction|latents|generation ...`; prints a table and can save it as JSON.

Pictures are given as `shapes:COUNT[:SEED]` (procedural), a folder, a parquet file or glob, or (generation) an .npz of
the ADM layout with arr_0 [N, H, W, 3].
"""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from eqvae.autoencoders import load_autoencoder
from eqvae.data import open_source, read_pictures
from eqvae.data.module import ImageBatches
from eqvae.evaluation import create_extractor, images_to_features
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.evaluation.generation import features_to_generation_metrics
from eqvae.evaluation.pictures import autoencoder_panel, save_png
from eqvae.training.cli import run_command
from eqvae.training.files import write_atomically
from eqvae.training.stream import SequentialBatches

RECONSTRUCTION = ("psnr", "ssim", "perceptual", "rf", "num_images")
NUM_PANEL_IMAGES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for name, text in (
        ("reconstruction", "PSNR, SSIM, perceptual distance and Fréchet distance of reconstructions"),
        ("latents", "equivariance errors, intrinsic dimension, effective rank, spectrum of a latent space"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--autoencoder", required=True, help="folder, hub id or packaged name (shapes-f4c8)")
        sub.add_argument("--data", required=True, help="pictures: shapes:COUNT[:SEED], folder, or parquet glob")
        sub.add_argument("--image-size", type=int, default=32, help="side after the centre crop (default 32)")
        sub.add_argument("--num-images", type=int, help="read only the first so many (default all)")
        sub.add_argument("--uint8-rule", choices=["round", "truncate"], default="round", help="default round")
        _common(sub)
        sub.add_argument("--picture", help="where to save a PNG of latents and their transforms (default: not saved)")
        sub.set_defaults(run=_autoencoder)
    sub = commands.add_parser("generation", help="FD (FID), KID, precision and recall of samples")
    sub.add_argument("--generated", required=True, help="samples: .npz, folder, or parquet glob")
    sub.add_argument("--reference", required=True, help="real pictures: the same, or shapes:COUNT[:SEED]")
    sub.add_argument("--image-size", type=int, default=32, help="side after the centre crop (default 32)")
    _common(sub)
    sub.set_defaults(run=_generation)
    arguments = parser.parse_args()
    run_command(lambda: _show(arguments, arguments.run(arguments)))


def _common(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--extractor", default="efficientnet_lite0", help="or inception_v3 (default efficientnet_lite0)")
    sub.add_argument("--extractor-weights", help="local weights of Inception-v3 (default: downloaded)")
    sub.add_argument("--output", help="JSON file for the numbers (default: printed only)")


def _autoencoder(arguments: argparse.Namespace) -> dict:
    autoencoder = load_autoencoder(arguments.autoencoder).freeze()
    source = ImageBatches(open_source(arguments.data, arguments.image_size))
    evaluation = AutoencoderEvaluation(
        arguments.extractor, arguments.extractor_weights, uint8_rule=arguments.uint8_rule
    )
    batches = SequentialBatches(source, 100, arguments.num_images)
    for batch in batches.loader():
        evaluation.update(autoencoder, batch["image"])
    if arguments.picture:
        images = torch.stack([source.get_batch(torch.tensor([i]), None)["image"][0] for i in range(NUM_PANEL_IMAGES)])
        save_png(autoencoder_panel(autoencoder, images), Path(arguments.picture))
    report = evaluation.compute()
    wanted = arguments.command == "reconstruction"
    kept = {k: v for k, v in report.items() if k.startswith(RECONSTRUCTION) == wanted or k == "num_images"}
    return kept | {"uint8_rule": arguments.uint8_rule, "extractor": arguments.extractor, "data": arguments.data}


def _generation(arguments: argparse.Namespace) -> dict:
    extractor = create_extractor(arguments.extractor, arguments.extractor_weights)
    sets = [read_pictures(where, arguments.image_size) for where in (arguments.reference, arguments.generated)]
    real, generated = (images_to_features(pictures.split(100), extractor) for pictures in sets)
    report = features_to_generation_metrics(real, generated, arguments.extractor)
    return report | {"num_reference": len(real), "num_generated": len(generated), "extractor": arguments.extractor}


def _show(arguments: argparse.Namespace, report: dict) -> None:
    table = Table("quantity", "value")
    for name, value in report.items():
        table.add_row(name, f"{value:.5g}" if isinstance(value, float) else str(value))
    Console().print(table)
    if arguments.output:
        write_atomically(Path(arguments.output), (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()

"""Hub repositories of what was trained: weights for diffusers with a model card, written to a folder and pushed.

Examples:
  autoencoder --autoencoder runs/tiny-shapes-eq/autoencoder --output runs/hub/autoencoder --metrics rec.json
  generator --checkpoint runs/tiny-dit/checkpoints/last.ckpt --output runs/hub/pipeline --push-to-hub OWNER/NAME
"""

import argparse
from pathlib import Path
from typing import Any

from twostage.cli.command import new_parser, start
from twostage.cli.options import add_file_family


def main() -> None:
    parser = new_parser(__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    _add_autoencoder(commands)
    _add_generator(commands)
    start("export", parser)


def _add_autoencoder(commands: Any) -> None:
    text = "an autoencoder as the repository that AutoencoderKL.from_pretrained reads"
    sub = commands.add_parser("autoencoder", help=text, description=text)
    add = sub.add_argument
    add("--autoencoder", required=True, help="folder, file, hub id or packaged name")
    add_file_family(sub)
    add("--constants", choices=["own", "base"], default="own", help="what scaling_factor, shift_factor, latents_mean "
        "and latents_std of the config mean: own, the normalization of these latents (default), for what is trained on "
        "them; base, that of the model it was trained from, for dropping it into that model's pipelines")  # fmt: skip
    _add_common(sub, "hub id of the model it was trained from (default: the one that its record names)")


def _add_generator(commands: Any) -> None:
    text = "a trained DiT with its autoencoder as the repository that DiTPipeline.from_pretrained runs"
    sub = commands.add_parser("generator", help=text, description=text)
    add = sub.add_argument
    add("--checkpoint", required=True, help="checkpoint of a generator (.ckpt), or a public one of DiT (.pt)")
    add("--ema-decay", type=float, help="which moving average, where the run kept several (default: the first)")
    add("--autoencoder", help="folder, file or hub id that decodes (default: the one named in the checkpoint)")
    add("--num-inference-steps", type=int, default=50, help="steps that the pipeline will be called with, or a "
        "multiple of them (default %(default)s)")  # fmt: skip
    _add_common(sub, "hub id of the autoencoder whose latents it makes (default: the one that the checkpoint names)")


def _add_common(sub: argparse.ArgumentParser, base: str) -> None:
    add = sub.add_argument
    add("--output", required=True, type=Path, help="folder of the repository")
    add("--metrics", nargs="+", default=[], metavar="FILE", help="measurements for the card: results of evaluate.py "
        "--output, or a sweep's metrics.json")  # fmt: skip
    add("--base-model", help=base)
    add("--license", help="licence of the base model, an identifier of the hub such as mit (default: what the base "
        "model's own card says where it is on the hub, else none)")  # fmt: skip
    add("--push-to-hub", metavar="OWNER/NAME", help="upload the folder there, too; the repository is made if need be")
    add("--private", action="store_true", help="make the repository a private one")
    add("--revision", help="branch to push to (default: the main one)")
    add("--commit-message", help="of the upload (default: that of huggingface_hub)")

"""Which of several autoencoders lets a generator learn faster? An answer within a given time, with its report.

Autoencoders are folders, single files, packaged names or hub ids; eq:A is A fine-tuned with EQ-VAE's transforms first,
ordinary:A with the ordinary loss. The first one is the control. Example: shapes-f4c8 eq:shapes-f4c8 --budget 30m
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from eqvae.commands import CommandParser, run_command
from eqvae.ranges import require_number
from twostage.analysis.summary import is_open
from twostage.cli.ending import command, end, look_at
from twostage.cli.sweep import again
from twostage.compare.budget import parse_duration
from twostage.compare.files import SWEEP
from twostage.compare.images import DEFAULT
from twostage.compare.request import Request, default_folder
from twostage.compare.run import compare


def main() -> None:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("autoencoders", nargs="+", metavar="AUTOENCODER", help="two or more, the first of them the control")
    add("--data", default=DEFAULT, help="images to learn from: shapes:COUNT[:SEED], scenes:COUNT[:SEED], a folder, a "
        f"parquet or tar file or glob; {DEFAULT}")  # fmt: skip
    add("--held-out", help="images to measure against, written likewise; of procedural ones the next seed's")
    add("--image-size", type=int, default=32, help="side of the images in pixels; 32")
    add("--budget", default="10m", help="time for everything, 90s, 10m or 2h; 10m")
    add("--fine-tuning-steps", type=int, default=200, help="of each eq: and ordinary: autoencoder; 200")
    add("--output", help="folder of the comparison; runs/compare-NAMES. What lies there is gone on with")
    add("--retry", action="store_true", help="also do parts again that failed in an earlier run")
    run_command(lambda: _run(parser.parse_args()))


def _run(arguments: argparse.Namespace) -> None:
    require_number("--image-size", arguments.image_size, least=8)
    require_number("--fine-tuning-steps", arguments.fine_tuning_steps, least=1)
    names = ("autoencoders", "data", "held_out", "image_size", "fine_tuning_steps")
    request = Request(**{name: vars(arguments)[name] for name in names}, budget=parse_duration(arguments.budget))
    folder = Path(arguments.output) if arguments.output else default_folder(request.autoencoders)
    report, results = compare(request, folder, again(sys.argv), Console(), arguments.retry)
    has_more = is_open(results) and results.max_seeds is not None and len(results.seeds) < results.max_seeds
    more_seeds = command("sweep", "--config", folder / SWEEP)  # those the budget had no time for
    end(report.resolve(), more_seeds if has_more else look_at(report.resolve()))

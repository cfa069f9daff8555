"""Which of several autoencoders lets a generator learn faster? An answer within a given time, with its report.

Autoencoders are folders, single files, packaged names or hub ids; eq:A is A fine-tuned with EQ-VAE's transforms first,
ordinary:A with the ordinary loss. The first one is the control. Example: shapes-f4c8 eq:shapes-f4c8 --budget 30m
"""

import argparse
import sys

from eqvae.commands import CommandParser, run_command
from twostage.analysis.summary import is_open
from twostage.cli.ending import command, end, look_at
from twostage.cli.sweep import again
from twostage.compare.images import DEFAULT
from twostage.compare.run import compare_autoencoders


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
    outcome = compare_autoencoders(**vars(arguments), command=again(sys.argv))
    results, report = outcome.results, outcome.report.resolve()
    has_more = is_open(results) and results.max_seeds is not None and len(results.seeds) < results.max_seeds
    more_seeds = command("sweep", "--config", outcome.sweep_file)  # those the budget had no time for
    end(report, more_seeds if has_more else look_at(report))

"""Metrics of autoencoders, latents and samples: prints a table and can save it as JSON.

Images are given as `shapes:COUNT[:SEED]` or `scenes:COUNT[:SEED]` (procedural), `hub:OWNER/NAME[:SPLIT]`, a folder, a
parquet or tar file or glob, tar files by a range or address (`https://HOST/a-{000..099}.tar`), an .npz
of the ADM layout (arr_0 [N, H, W, 3]; as a reference also mu, sigma, mu_s, sigma_s), or (generation) the output folder
of sample.py.
"""

import argparse

from eqvae.commands import CommandParser, run_command
from eqvae.evaluation.tables import save_result
from eqvae.files import require_place
from eqvae.options import require_device
from eqvae.ranges import require_number
from twostage.cli.ending import end
from twostage.cli.evaluate import alignment, generation, images, latents, reconstruction
from twostage.cli.evaluate.following import following

LEAST = {"num_images": 1, "num_workers": 0, "image_size": 1, "neighbours": 1}
"""The smallest number with which anything can be measured, by option."""


def main() -> None:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for subcommand in (reconstruction, latents, generation, alignment, images):
        subcommand.add_to(commands)
    run_command(lambda: _run(parser.parse_args()))


def _run(arguments: argparse.Namespace) -> None:
    _require_ranges(arguments)
    if hasattr(arguments, "device"):
        require_device(arguments.device)
    for place in filter(None, (getattr(arguments, name, None) for name in ("output", "figure"))):
        require_place(place)
    report = arguments.run(arguments)
    if arguments.output:
        save_result(arguments.output, report)
    end(arguments.output, following(arguments))


def _require_ranges(arguments: argparse.Namespace) -> None:
    """Refuse numbers that no measurement can be made with, naming the option."""
    for name, limit in LEAST.items():
        if getattr(arguments, name, None) is not None:
            require_number(f"--{name.replace('_', '-')}", getattr(arguments, name), least=limit)
    for time in getattr(arguments, "times", ()):
        require_number("--times", time, least=0, most=1)

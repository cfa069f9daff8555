"""`evaluate`: one file per subcommand, which measures; `following` says what comes next.

`autoencoders` is what those share that measure one autoencoder, or two side by side.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

from eqvae.evaluation.tables import save_result
from eqvae.files import require_place
from eqvae.hashes import read_json
from eqvae.options import choose_device
from eqvae.ranges import require_number
from twostage.commands.ending import end
from twostage.commands.evaluate.alignment import measure_blocks
from twostage.commands.evaluate.following import following
from twostage.commands.evaluate.generation import measure_samples
from twostage.commands.evaluate.images import look_for_unreadable
from twostage.commands.evaluate.latents import measure_latent_spaces
from twostage.commands.evaluate.reconstruction import measure_reconstructions

LEAST = {"num_images": 1, "num_workers": 0, "image_size": 1, "neighbours": 1, "num_threads": 1}
"""The smallest number with which anything can be measured, by option."""
MOST = {"num_images": 1_000_000_000, "image_size": 16_384}

RESULTS = {"versions", "first", "num_unreadable"}
"""Keys by which a file is known to be a result: of one, of two, of a search for unreadable images."""

READ = ("autoencoder", "data", "checkpoint", "encoder_weights", "extractor_weights", "lpips_weights")
"""Options of the subcommands with a figure that may name a file or folder."""

MEASUREMENTS = {
    "reconstruction": measure_reconstructions,
    "latents": measure_latent_spaces,
    "generation": measure_samples,
    "alignment": measure_blocks,
    "images": look_for_unreadable,
}


def run(arguments: argparse.Namespace) -> None:
    """Measure what a subcommand asks for, print and keep it."""
    _require_ranges(arguments)
    if hasattr(arguments, "device"):
        arguments.device = choose_device(arguments.device)
    _require_outputs(arguments)
    report = MEASUREMENTS[arguments.command](arguments)
    if arguments.output:
        save_result(arguments.output, report)
    end(arguments.output, following(arguments))


def _require_outputs(arguments: argparse.Namespace) -> None:
    """Refuse to write over what is no earlier output: an input, or anybody's file."""
    output, figure = (getattr(arguments, name, None) for name in ("output", "figure"))
    for place in filter(None, (output, figure)):
        require_place(place)
    if output and Path(output).exists() and not _is_result(Path(output)):
        raise ValueError(f"--output {output} exists and is no result of evaluate.py: give another name")
    if not figure:
        return
    if Path(figure).suffix.lower() != ".png":
        raise ValueError(f"--figure {figure}: figures are PNG files, give a name that ends with .png")
    if output and Path(figure).resolve() == Path(output).resolve():
        raise ValueError(f"--figure and --output are both {figure}: give two names")
    drawn = Path(figure).resolve()
    for each in _inputs(arguments):
        if drawn.exists() and each.resolve() in (drawn, *drawn.parents):
            raise ValueError(f"--figure {figure} is there, in {each}, which is read: give another place")


def _inputs(arguments: argparse.Namespace) -> Iterator[Path]:
    """Files and folders that are read."""
    for name in READ:
        value = getattr(arguments, name, None)
        for each in value if isinstance(value, list) else [value]:
            if each and Path(each).exists():
                yield Path(each)


def _is_result(path: Path) -> bool:
    try:
        return bool(RESULTS & set(read_json(path)))
    except ValueError:
        return False


def _require_ranges(arguments: argparse.Namespace) -> None:
    """Refuse numbers that no measurement can be made with, naming the option."""
    for name, limit in LEAST.items():
        if getattr(arguments, name, None) is not None:
            most = MOST.get(name, math.inf)
            require_number(f"--{name.replace('_', '-')}", getattr(arguments, name), least=limit, most=most)
    for time in getattr(arguments, "times", ()):
        require_number("--times", time, least=0, most=1)

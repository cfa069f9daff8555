"""`evaluate`: one file per subcommand, which measures; `following` says what comes next.

`autoencoders` is what those share that measure one autoencoder, or two side by side.
"""

import argparse

from eqvae.evaluation.tables import save_result
from eqvae.files import require_place
from eqvae.options import choose_device
from eqvae.ranges import require_number
from twostage.commands.ending import end
from twostage.commands.evaluate.alignment import measure_blocks
from twostage.commands.evaluate.following import following
from twostage.commands.evaluate.generation import measure_samples
from twostage.commands.evaluate.images import look_for_unreadable
from twostage.commands.evaluate.latents import measure_latent_spaces
from twostage.commands.evaluate.reconstruction import measure_reconstructions

LEAST = {"num_images": 1, "num_workers": 0, "image_size": 1, "neighbours": 1}
"""The smallest number with which anything can be measured, by option."""

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
    for place in filter(None, (getattr(arguments, name, None) for name in ("output", "figure"))):
        require_place(place)
    report = MEASUREMENTS[arguments.command](arguments)
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

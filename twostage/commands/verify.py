"""`verify`: fresh seeds of a published study beside it."""

import argparse
import sys

from rich.console import Console

from eqvae.ranges import require_number
from twostage.commands.ending import command, end
from twostage.commands.sweep import again
from twostage.report.report import terminal_table
from twostage.verify import find_study, read_study, verify
from twostage.verify.packaged import SUFFIX
from twostage.verify.run import fresh_seeds


def run(arguments: argparse.Namespace) -> None:
    path = find_study(arguments.study)
    study = read_study(path)
    seeds = arguments.seeds or fresh_seeds(study)
    for seed in seeds:
        require_number("--seeds", seed, least=0)
    name = path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else str(arguments.study)
    report, results = verify(study, name, seeds, arguments.set, again(sys.argv), Console(), arguments.retry)
    print(terminal_table(results) + "\n")
    end(report.resolve(), command("verify", arguments.study, *_one_seed_more(arguments, seeds)))


def _one_seed_more(arguments: argparse.Namespace, seeds: list[int]) -> list[str]:
    """The options of the same check with another seed: what is trained already is not trained again."""
    options = ["--seeds", *map(str, [*seeds, max(seeds) + 1])]
    return [*options, "--set", *arguments.set] if arguments.set else options

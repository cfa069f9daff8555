"""Train fresh seeds of a published study, and say whether they agree with what it claims.

A study is the report.json of a sweep, or one that comes with the package. Example: demo --seeds 10 11
"""

import argparse
import sys

from rich.console import Console

from eqvae.commands import CommandParser, run_command
from eqvae.ranges import require_number
from twostage.cli.ending import command, end
from twostage.cli.sweep import again
from twostage.report.report import terminal_table
from twostage.verify import find_study, read_study, verify
from twostage.verify.run import fresh_seeds
from twostage.verify.studies import SUFFIX, packaged_studies


def main() -> None:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(packaged_studies())
    add = parser.add_argument
    add("study", help=f"report.json of a sweep, its folder, or a published study: {names}")
    add("--seeds", type=int, nargs="+", metavar="SEED", help="fresh seeds, none of them the study's; the first one "
        "above those")  # fmt: skip
    add("--retry", action="store_true", help="also do parts again that failed in an earlier run")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="where it runs: root=FOLDER, executor.num_workers=N")
    run_command(lambda: _run(parser.parse_args()))


def _run(arguments: argparse.Namespace) -> None:
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

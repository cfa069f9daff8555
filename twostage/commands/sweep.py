"""`sweep`: a two-stage experiment, its plan, or what it may leave out."""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from eqvae.plugins import plugin_options
from twostage import dry_run, load_sweep, run_sweep, terminal_table
from twostage.analysis.intervals import SEQUENTIAL_LEVELS
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import is_open
from twostage.commands.ending import command, end, look_at
from twostage.sweep import prune_sweep


def run(arguments: argparse.Namespace) -> None:
    sweep = load_sweep(arguments.config, arguments.overrides, to_run=not arguments.dry_run)
    console = Console()
    if arguments.dry_run:
        dry_run(sweep, console)
        end("nothing: this was the plan", command("sweep", *(word for word in sys.argv[1:] if word != "--dry-run")))
        return
    report, results = run_sweep(sweep, again(sys.argv), console, arguments.retry)
    print(terminal_table(results) + "\n")
    if arguments.prune:
        freed = prune_sweep(sweep)
        print(f"pruned {freed.num_nodes} trainings: {freed.num_bytes / 1e6:,.1f} MB less")
    more = _more_seeds(sys.argv[1:], results) if is_open(results) else None
    end(report.resolve(), command("sweep", *more) if more else look_at(report.resolve()))


def _more_seeds(words: list[str], results: SweepResults) -> list[str] | None:
    """The words of the same sweep with more seeds, taken one by one until it is decided.

    Looks at the level of a single one would err more often the more of them there are. None where the looks that were
    planned are over: others may not be added because of the result.
    """
    most = next((count for count in (10, max(SEQUENTIAL_LEVELS)) if count > len(results.seeds)), None)
    if results.max_seeds is not None or most is None:
        return None
    first = max(results.seeds) + 1
    seeds = [*results.seeds, *range(first, first + most - len(results.seeds))]
    changed = ("seeds=", "until_decided=")
    kept = [word for word in words if word not in ("--retry", "--prune") and not word.startswith(changed)]
    return [*kept, f"seeds={seeds}".replace(" ", ""), "until_decided=true"]


def again(words: list[str]) -> str:
    """How a person starts this command again: by the script of a checkout, or by the installed command."""
    program = Path(words[0]).name
    start = ["python", program] if program.endswith(".py") else [program]
    return shlex.join([*start, *plugin_options(), *(word for word in words[1:] if word != "--retry")])

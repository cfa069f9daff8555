"""`compare`: which autoencoder a generator learns faster on, within a given time."""

import argparse
import sys

from twostage.analysis.summary import is_open
from twostage.commands.ending import command, end, look_at
from twostage.commands.sweep import again
from twostage.compare.run import compare_autoencoders


def run(arguments: argparse.Namespace) -> None:
    outcome = compare_autoencoders(**vars(arguments), command=again(sys.argv))
    results, report = outcome.results, outcome.report.resolve()
    has_more = is_open(results) and results.max_seeds is not None and len(results.seeds) < results.max_seeds
    more_seeds = command("sweep", "--config", outcome.sweep_file)  # those the budget had no time for
    end(report, more_seeds if has_more else look_at(report))

"""A study with further seeds: `python -m studies.pool STUDY FRESH OUTPUT` adds those of a verification to its report.

For seeds that a design named before anything was trained, and that the study had no time for. What is added to a study
because of its result is another look, which this is not for.
"""

import argparse
import gzip
from dataclasses import replace
from pathlib import Path

from eqvae.commands import run_command
from eqvae.files import write_atomically
from twostage.analysis.records import AutoencoderMeasurement, SweepResults
from twostage.analysis.summary import summarize
from twostage.report.files import report_json
from twostage.verify import find_study, read_study


def pooled(study: SweepResults, fresh: SweepResults) -> SweepResults:
    """The study's results with those of fresh seeds behind them; images stay the study's.

    Raises:
        ValueError: if the fresh seeds are of another study, some are the study's own, or the common start has other
            numbers.
    """
    if fresh.published is None or fresh.published.seeds != study.seeds:
        raise ValueError("the fresh seeds verify another study: give the report that verify wrote for this one")
    if repeated := set(study.seeds) & set(fresh.seeds):
        raise ValueError(f"seed {min(repeated)} is in both: give fresh ones")
    if _starts(study) != _starts(fresh):
        raise ValueError("the common start has other numbers there: its trainings are no further seeds of this study")
    seeds = [*study.seeds, *fresh.seeds]
    listed = ", ".join(map(str, fresh.seeds))
    return replace(
        study,
        commands=[*study.commands, f"python verify.py {study.name} --seeds {' '.join(map(str, fresh.seeds))}"],
        seeds=seeds,
        curves=[*study.curves, *fresh.curves],
        autoencoders=[*study.autoencoders, *(each for each in fresh.autoencoders if each.seed is not None)],
        cost=[*study.cost, *(each for each in fresh.cost if each.seed is not None)],
        seconds=study.seconds + fresh.seconds,
        sweep=study.sweep | {"seeds": seeds},
        notes=[*study.notes, f"Seed {listed} was trained later, by verify, from the same start trained anew."],
    )


def _starts(results: SweepResults) -> list[AutoencoderMeasurement]:
    """What was measured of the common start, without what it cost."""
    starts = [each for each in results.autoencoders if each.seed is None]
    return [replace(each, seconds=None, device_seconds=None) for each in starts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="name of a published study, or its report.json")
    parser.add_argument("fresh", help="report.json that verify wrote for it, or its folder")
    parser.add_argument("output", type=Path, help="report to write, NAME.json.gz")
    arguments = parser.parse_args()
    results = pooled(read_study(find_study(arguments.study)), read_study(find_study(arguments.fresh)))
    content = report_json(results, summarize(results))
    write_atomically(arguments.output, gzip.compress(content, mtime=0))


if __name__ == "__main__":
    run_command(main)

"""A comparison from its request to its last line: planned once, then run as a sweep."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from twostage.analysis.records import SweepResults
from twostage.compare.answer import answer
from twostage.compare.budget import Rung, Work, choose, plan_lines, seconds_of
from twostage.compare.contestants import parse_contestants, read_field
from twostage.compare.files import SWEEP, contents
from twostage.compare.images import find_images
from twostage.compare.request import Request, counting, kept_plan, used, write
from twostage.compare.timing import REPORT_SECONDS, choose_workers, take_times
from twostage.loading import load_sweep
from twostage.report.text import format_duration
from twostage.sweep import run_sweep


def compare(
    request: Request, folder: Path, command: str, console: Console, retry: bool = False
) -> tuple[Path, SweepResults]:
    """Answer a request, and print the answer.

    Args:
        folder: of this comparison: its plan, configs, sweep file and report. Parts lie in the store beside it.
        command: how it is run again, for the report.
        retry: also parts that failed in an earlier run.

    Returns:
        The path of report.html, and the results it shows.

    Raises:
        ValueError: for a request that cannot be run, another one than the folder holds, or a budget that is too small,
            before anything is written; else as `run_sweep`.
    """
    started = time.monotonic()
    kept = kept_plan(folder, request)
    planned = kept or _make_plan(folder, request, console, started)
    for line in plan_lines(Rung(**planned["rung"]), planned["seconds"], request.budget):
        _print(console, line)
    before = used(folder)
    with counting(folder, started, before):
        sweep = load_sweep(folder / SWEEP, [], to_run=True)
        deadline = started + request.budget - before - REPORT_SECONDS
        report, results = run_sweep(sweep, command, console, retry, deadline)
    for line in [*answer(results), f"time: {format_duration(used(folder))} of {format_duration(request.budget)}"]:
        _print(console, line)
    return report, results


def _make_plan(folder: Path, request: Request, console: Console, started: float) -> dict[str, Any]:
    """Read what is asked for, take times, choose what fits, and only then write the comparison's folder."""
    contestants = parse_contestants(request.autoencoders)
    images = find_images(request.data, request.held_out, request.image_size)
    field = read_field(contestants, request.image_size)
    work = Work(
        num_arms=len(contestants),
        num_trained=len(field.trained),
        num_taken_over=len(field.taken_over),
        tuning_steps=request.fine_tuning_steps,
        num_train=images.num_train,
        num_held_out=images.num_held_out,
        num_workers=choose_workers(len(contestants)),
    )
    _print(console, "timing each kind of part on this machine")
    costs = take_times(field, images, work, request.budget)
    spent = time.monotonic() - started
    _print(console, f"timed in {format_duration(spent)}: {_per_unit(asdict(costs))}")
    rung = choose(work, costs, request.budget, spent)
    seconds = seconds_of(rung, work, costs)
    planned = {"request": asdict(request), "costs": asdict(costs), "rung": asdict(rung), "seconds": seconds}
    files = contents(folder, field, images, rung, request.fine_tuning_steps, work.num_workers)
    write(folder, files, planned)
    return planned


def _per_unit(costs: dict[str, Any]) -> str:
    rates = {"training step": costs["training_step"], "sampled image": costs["sampled_image"]}
    listed = [
        f"{unit} {', '.join(f'{1000 * seconds:.0f} ms ({size})' for size, seconds in by_size.items())}"
        for unit, by_size in rates.items()
    ]
    listed.append(f"encoded image {1000 * costs['encoded_image']:.1f} ms")
    if costs["tuning_step"]:
        listed.append(f"fine-tuning step {1000 * costs['tuning_step']:.0f} ms")
    return "; ".join(listed)


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)

"""A comparison from its request to its last line: planned once, then run as a sweep."""

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from eqvae.ranges import require_number
from twostage.analysis.intervals import SEQUENTIAL_LEVELS
from twostage.analysis.records import SweepResults
from twostage.compare import DEFAULT_IMAGES
from twostage.compare.answer import answer
from twostage.compare.budget import Rung, Work, choose, parse_duration, plan_lines, seconds_of
from twostage.compare.contestants import parse_contestants, read_field
from twostage.compare.files import SWEEP, contents
from twostage.compare.forecast import Gauge, forecast
from twostage.compare.images import find_images, held_out_images
from twostage.compare.request import Request, counting, default_folder, kept_plan, used, write
from twostage.compare.timing import REPORT_SECONDS, choose_workers, take_times
from twostage.loading import load_sweep
from twostage.report.text import format_duration
from twostage.sweep import Foretell, run_sweep

LARGEST_SEED = 999_000  # of the first one; a thousand further begin those of "again:" autoencoders
SEEDS_APART = max(SEQUENTIAL_LEVELS)  # the most seeds of a comparison: two with other first seeds share none


class Compared(NamedTuple):
    """What a comparison found: the last lines that it printed, its results, and where report and sweep file lie."""

    lines: list[str]
    results: SweepResults
    report: Path
    sweep_file: Path


def compare_autoencoders(
    autoencoders: Sequence[str],
    data: str = DEFAULT_IMAGES,
    budget: str = "10m",
    *,
    held_out: str | None = None,
    image_size: int = 32,
    fine_tuning_steps: int = 200,
    first_seed: int = 0,
    output: str | Path | None = None,
    retry: bool = False,
    command: str | None = None,
    console: Console | None = None,
) -> Compared:
    """Which of several autoencoders lets a generator learn faster? An answer within a given time, with its report.

    Args:
        autoencoders: words of `parse_contestants`, the control first: folders, packaged names or hub ids; "eq:A" is A
            fine-tuned with EQ-VAE's transforms first, "ordinary:A" with the ordinary loss, "again:A" likewise with
            other seeds.
        data: images to learn from, a word of `open_source`.
        budget: time for everything: "90s", "10m" or "2h".
        held_out: images to measure against, written likewise; None: of procedural ones the next seed's.
        image_size: side of the images in pixels.
        fine_tuning_steps: of each autoencoder that is fine-tuned first.
        first_seed: a multiple of 20, which the others follow; another one repeats the comparison independently.
        output: folder of the comparison; None: `runs/compare-NAMES`. What lies there is gone on with.
        retry: also do parts again that failed in an earlier run.
        command: how it is run again, for the report; None: by `eqvae-compare`.
        console: that is printed to; None: standard output.

    Raises:
        ValueError: as of `compare`.
    """
    require_number("--image-size", image_size, least=8)
    require_number("--fine-tuning-steps", fine_tuning_steps, least=1)
    require_number("--first-seed", first_seed, least=0, most=LARGEST_SEED)
    if first_seed % SEEDS_APART:
        near = first_seed - first_seed % SEEDS_APART
        raise ValueError(
            f"--first-seed {first_seed} shares seeds with other comparisons: give a multiple of {SEEDS_APART}, such as "
            f"{near} or {near + SEEDS_APART}"
        )
    words, folder = list(autoencoders), Path(output) if output else default_folder(list(autoencoders))
    request = Request(words, data, held_out, image_size, parse_duration(budget), fine_tuning_steps, first_seed)
    again = command or _command(request, budget, folder)
    return compare(request, folder, again, console or Console(), retry)


def _command(request: Request, budget: str, folder: Path) -> str:
    """What a command line would ask the same with."""
    options = {
        "data": request.data,
        "held-out": request.held_out,
        "image-size": request.image_size,
        "budget": budget,
        "fine-tuning-steps": request.fine_tuning_steps,
        "first-seed": request.first_seed,
        "output": folder,
    }
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["eqvae-compare", *request.autoencoders, *words])


def compare(request: Request, folder: Path, command: str, console: Console, retry: bool = False) -> Compared:
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
        report, results = run_sweep(sweep, command, console, retry, deadline, foretell=_foretell(request))
    lines = [*answer(results), f"time: {format_duration(used(folder))} of {format_duration(request.budget)}"]
    for line in lines:
        _print(console, line)
    return Compared(lines, results, report, folder / SWEEP)


def _foretell(request: Request) -> Foretell:
    """What the latents say of the autoencoders of a request, by their folders."""
    words = {each.name: each.word for each in parse_contestants(request.autoencoders)}
    images = held_out_images(request.data, request.held_out)

    def lines(folders: Mapping[str, Path]) -> Iterable[str]:
        by_word = {words[arm]: folder for arm, folder in folders.items()}
        return forecast(by_word, request.autoencoders[0], images, request.image_size, Gauge.load())

    return lines


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
    tuning_steps, workers = request.fine_tuning_steps, work.num_workers
    files = contents(folder, field, images, rung, tuning_steps, workers, request.first_seed)
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

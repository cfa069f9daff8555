"""Runs a sweep: its plan, what is not yet done of it, more seeds where they are asked for, and the report."""

import math
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape

from eqvae.files import write_atomically
from eqvae.locks import Lock
from eqvae.plugins import plugins
from twostage.analysis.racing import stop_sentence
from twostage.analysis.records import StoppedArm, SweepResults
from twostage.analysis.summary import open_comparisons, summarize
from twostage.analysis.treatment import treatment_line, treatments
from twostage.graph.execution import Milestone, run_nodes
from twostage.graph.node import unique
from twostage.graph.pruning import Freed, prune
from twostage.graph.store import is_done, record_of
from twostage.libraries import installed_libraries, visible_devices
from twostage.looks import after_look, looks
from twostage.parts import WithPlugins, run_node, superfluous_checkpoints
from twostage.planner import Plan, plan
from twostage.report.report import write_report
from twostage.report.results import arms_of, collect, measured_autoencoders
from twostage.schema import Sweep

LOCK, REPORT = ".lock", "report"


Foretell = Callable[[Mapping[str, Path]], Iterable[str]]


def nothing_foretold(folders: Mapping[str, Path]) -> Iterable[str]:
    """No lines."""
    return ()


def as_measured(results: SweepResults) -> SweepResults:
    """Results to which nothing is added."""
    return results


def run_sweep(
    sweep: Sweep,
    command: str,
    console: Console,
    retry: bool = False,
    deadline: float = math.inf,
    complete: Callable[[SweepResults], SweepResults] = as_measured,
    foretell: Foretell = nothing_foretold,
) -> tuple[Path, SweepResults]:
    """Do what is not yet done of a sweep and write its report.

    With `until_decided` seeds are taken one by one, from the third on, until every comparison has its verdict; the
    results are those of the same seeds run at once. With `racing` hopeless arms are stopped at these looks. They are
    judged when all arms that run have all seeds of the look, so that a sweep which was interrupted stops the same ones.

    Args:
        command: how this sweep is run again, for the report.
        retry: also parts that failed in an earlier run.
        deadline: on the clock of `time.monotonic`. With `until_decided` no seed is begun that would not end before it,
            going by what a seed has taken so far; the first look is always taken, and so are those whose parts are all
            there, so that a finished sweep that is run again says what it said. When to stop then depends on time
            alone, not on what was measured, so verdicts keep their level.
        complete: what else belongs to the results, before their report is written.
        foretell: lines to print when the autoencoders of the first seed are there, from their folders by arm.

    Returns:
        The path of report.html, and the results it shows.

    Raises:
        ValueError: for a folder that cannot be written, or that another process works in; listing the parts that failed
            and their logs.
    """
    root = Path(sweep.root)
    make_folder(root / sweep.name)
    with Lock(root / sweep.name / LOCK, f"sweep {root / sweep.name}"):
        results = complete(_run(sweep, command, console, retry, root, deadline, foretell))
        return write_report(root / sweep.name / REPORT, results), results


def make_folder(folder: Path) -> None:
    """Make the sweep's own folder.

    Raises:
        ValueError: if that is impossible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"root: {folder} cannot be made: {error.strerror}") from None


def _run(
    sweep: Sweep, command: str, console: Console, retry: bool, root: Path, deadline: float, foretell: Foretell
) -> SweepResults:
    folder = root / sweep.name / REPORT
    work = WithPlugins(run_node, plugins())
    results, stopped = None, []
    for seeds in looks(sweep):
        planned = plan(sweep, seeds).part(seeds, stopped)
        record(sweep, planned, root)
        libraries, devices = installed_libraries(), visible_devices()
        first = None if results else _first_autoencoders(sweep, planned, root, foretell)  # of later looks the same
        run_nodes(planned.nodes, root, sweep.executor, console, work, retry, libraries, devices, first)
        results = after_look(sweep, collect(sweep, planned, root, folder, command, stopped))
        for each in results.stopped[len(stopped) :]:
            console.print(f"[yellow]stopped[/] {escape(stop_sentence(results, each))}", highlight=False)
        stopped = results.stopped
        open_, count = open_comparisons(results), len(summarize(results).comparisons)
        if not open_ or seeds == sweep.seeds:
            break
        undecided = f"{len(seeds)} seeds: {len(open_)} of {count} comparisons undecided"
        running = [arm.name for arm in results.racing_arms]
        seconds = seconds_of_a_seed(planned, root, _side_by_side(sweep, len(devices)), running)
        if time.monotonic() + seconds > deadline and not _is_there(sweep, len(seeds) + 1, stopped, root):
            console.print(f"{undecided}; no time is left for another, {seconds:.0f} s", highlight=False)
            break
        console.print(f"{undecided}, one seed more", highlight=False)
    assert results is not None, "a sweep has a look at least"
    return results


def _is_there(sweep: Sweep, num_seeds: int, stopped: Iterable[StoppedArm], root: Path) -> bool:
    """Whether a look at so many seeds finds all its parts done."""
    seeds = sweep.seeds[:num_seeds]
    return all(is_done(node, root) for node in plan(sweep, seeds).part(seeds, stopped).nodes)


def _first_autoencoders(sweep: Sweep, planned: Plan, root: Path, foretell: Foretell) -> Milestone:
    """The autoencoders of the first seed are begun before anything else; when all are done it is said what they are."""
    seed, arms = planned.seeds[0], arms_of(sweep)
    branches = [branch for branch in planned.branches if branch.seed == seed]
    started = [node for node in (planned.start, planned.start_diagnostics) if node is not None]
    first = started + [node for branch in branches for node in branch.stage_one()]

    def lines() -> list[str]:
        measured = measured_autoencoders(planned, root, seed)
        folders = {branch.arm: branch.autoencoder.folder(root) / "autoencoder" for branch in branches}
        checked = [treatment_line(each) for each in treatments(measured, arms, sweep.control)]
        return [*checked, *foretell(folders)]

    return Milestone(unique(first), lines)


def prune_sweep(sweep: Sweep) -> Freed:
    """Remove checkpoints of a finished sweep that nothing in it reads any more; one of each training stays.

    Raises:
        ValueError: if a process works on the sweep, or on one of its parts.
    """
    root = Path(sweep.root)
    with Lock(root / sweep.name / LOCK, f"sweep {root / sweep.name}"):
        return prune(plan(sweep, sweep.seeds).nodes, root, superfluous_checkpoints)


def seconds_of_a_seed(planned: Plan, root: Path, side_by_side: int, arms: Collection[str] | None = None) -> float:
    """What another seed will take: as long as the slowest one so far, by the records of its finished parts.

    Records tell the same of a sweep that was started again, and finds all of it done. What several seeds share, such as
    the latents of a ready autoencoder, is there already.

    Args:
        side_by_side: branches that are worked on at a time.
        arms: that take another seed; None: all.
    """
    seeds_of: dict[str, set[int]] = {}
    for branch in planned.branches:
        for node in branch.nodes():
            seeds_of.setdefault(node.address, set()).add(branch.seed)
    seconds: dict[int, list[float]] = {}
    for branch in planned.branches:
        if arms is not None and branch.arm not in arms:
            continue
        own = unique(node for node in branch.nodes() if len(seeds_of[node.address]) == 1)
        seconds.setdefault(branch.seed, []).append(sum(record_of(node, root)["seconds"] for node in own))
    return max(math.ceil(len(each) / side_by_side) * max(each) for each in seconds.values())


def _side_by_side(sweep: Sweep, num_devices: int) -> int:
    """Branches of a seed that the executor works on at a time; jobs of a cluster wait for nobody."""
    if sweep.executor.kind != "local":
        return len(sweep.autoencoders)
    workers = sweep.executor.num_workers
    return max(1, num_devices if workers is None else workers)


def record(sweep: Sweep, planned: Plan, root: Path) -> None:
    """The sweep's own folder: the file as it was read, and a link to each node by its place in the plan.

    Raises:
        ValueError: for a folder that cannot be written.
    """
    folder = root / sweep.name
    links = folder / "nodes"
    try:
        shutil.rmtree(links, ignore_errors=True)
        links.mkdir(parents=True)
        write_atomically(folder / "sweep.yaml", OmegaConf.to_yaml(OmegaConf.structured(sweep)).encode())
        for node in planned.nodes:
            link = links / node.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(node.folder(root), link.parent), target_is_directory=True)
    except OSError as error:
        raise ValueError(f"root: {folder} cannot be written: {error.strerror}") from None

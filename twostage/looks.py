"""The looks of a sweep, and which arms were stopped at them."""

from dataclasses import replace
from pathlib import Path

from twostage.analysis.intervals import FIRST_LOOK
from twostage.analysis.racing import hopeless_arms
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import is_open
from twostage.graph.store import is_done
from twostage.planner import Plan
from twostage.report.results import measured
from twostage.schema import Sweep


def looks(sweep: Sweep) -> list[list[int]]:
    """The seeds of each look; a fixed number of seeds is looked at once."""
    if not sweep.until_decided:
        return [sweep.seeds]
    return [sweep.seeds[:count] for count in range(FIRST_LOOK, len(sweep.seeds) + 1)]


def after_look(sweep: Sweep, results: SweepResults) -> SweepResults:
    """The results of a look with the arms that are stopped by it; none where no seed is left, or nothing to decide.

    Args:
        results: of all seeds of the look.
    """
    if not sweep.racing or results.seeds == sweep.seeds or not is_open(results):
        return results
    found = hopeless_arms(results, sweep.smallest_speed_up)
    return replace(results, stopped=[*results.stopped, *found])


def last_look(sweep: Sweep, planned: Plan, root: Path) -> SweepResults | None:
    """The results of the last look of which every part is done, without images; None before the first one.

    Args:
        planned: all seeds of the sweep.
    """
    results = None
    for seeds in looks(sweep):
        stopped = results.stopped if results else []
        part = planned.part(seeds, stopped)
        if not all(is_done(node, root) for node in part.nodes):
            break
        results = after_look(sweep, measured(sweep, part, root, "", stopped))
        if not is_open(results):
            break
    return results

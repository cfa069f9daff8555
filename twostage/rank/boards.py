"""Arms of many reports, ranked by their speed-up among those that were measured alike."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eqvae.packaged import NAME
from twostage.analysis.leaderboard import SPEED_UP, LeaderboardRow
from twostage.analysis.ranking import Ends, Standing, ends_of_verdict, standings
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import summarize
from twostage.analysis.verdict import Verdict
from twostage.report.files import read_report
from twostage.verify import find_study

TOGETHER = "all together"
FOR_READERS = ("label", "description")  # keys of a sweep file that change no number
NEWER_KEYS = {"labels": "balanced"}  # of `evaluation`, with what reports mean that do not have them


@dataclass(frozen=True)
class Report:
    """A report with its name: the packaged study's, or the path that was given."""

    name: str
    path: Path
    results: SweepResults


Rows = list[tuple[Report, LeaderboardRow]]


@dataclass(frozen=True)
class Entry:
    """An arm of a report with a generator.

    Args:
        report, title: of the report, its name and its title.
        path: of its report.json.
        arm_label, generator_label, control_label: which.
        metric_label, num_steps: that its generators are measured by, and at the last step that they share.
        is_control: whether the others are compared with it.
        verdict: None of a control, and of an arm without a number beside it.
        num_seeds: that it rests on.
        created, hardware: of the report.
        speed_up: with its interval and its rank on the board.
    """

    report: str
    title: str
    path: str
    arm_label: str
    generator_label: str
    control_label: str
    metric_label: str
    num_steps: int | None
    is_control: bool
    verdict: Verdict | None
    num_seeds: int
    created: str
    hardware: str
    speed_up: Standing


@dataclass(frozen=True)
class Board:
    """Entries whose speed-ups are over the same control, with the same generator, measured alike; the best first."""

    title: str
    entries: list[Entry]


def read_reports(given: Iterable[str | Path]) -> list[Report]:
    """The reports that are meant: files, their folders, or packaged studies.

    Raises:
        ValueError: naming what is not there, damaged, or given twice.
    """
    found: dict[Path, Report] = {}
    for each in given:
        path = find_study(each)
        if path.resolve() in found:
            raise ValueError(f"report {each} is given twice: give it once")
        found[path.resolve()] = Report(str(each), path, read_report(path))
    return list(found.values())


def boards(reports: Sequence[Report], together: bool = False) -> list[Board]:
    """A board for all that can be compared, largest first.

    Entries stand on one board if control, generator, measurement and number of steps are the same by their sweep files,
    and the recipes of both as well, where reports know them. A report that does not hold its sweep file has boards of
    its own, and so has one that names files and knows no recipes. The control stands there once.

    Args:
        together: one board of all, whatever they were measured with: the order of ratios over different controls.
    """
    rows = [(report, row) for report in reports for row in summarize(report.results).leaderboard]
    found = [_board(group, together) for group in ([rows] if together else _groups(rows))]
    return sorted(found, key=lambda board: -len(board.entries))


def _groups(rows: Rows) -> list[Rows]:
    """Rows that can be compared; one that knows no recipes goes with those that it is like, if they have one alone."""
    recipes: dict[str, set[str]] = {}
    for report, row in rows:
        recipes.setdefault(_likeness(report, row), set()).update(_recipes(report, row))
    groups: dict[tuple[str, ...], Rows] = {}
    for report, row in rows:
        known = recipes[likeness := _likeness(report, row)]
        own = _recipes(report, row) or (known if len(known) == 1 else [])
        groups.setdefault((likeness, *own), []).append((report, row))
    return list(groups.values())


def _likeness(report: Report, row: LeaderboardRow) -> str:
    """What must be equal for speed-ups to be compared, as text."""
    results, sweep = report.results, report.results.sweep
    if not sweep or (not results.recipes and _names_files(results, row.generator)):
        return json.dumps([str(report.path), row.generator])
    measured = NEWER_KEYS | sweep.get("evaluation", {})
    evaluation = {key: value for key, value in measured.items() if key != "num_resamples"}
    control = _without_words(sweep.get("autoencoders", {}).get(results.control, {}))
    generator = _without_words(sweep.get("generators", {}).get(row.generator, {}))
    learned = sweep.get("generator_images") or {}
    alike = [results.metric, row.num_steps, evaluation, control, generator, sweep.get("start"), learned]
    return json.dumps(alike, sort_keys=True)


def _recipes(report: Report, row: LeaderboardRow) -> list[str]:
    """What is known of the recipes of the control and a generator, as one text; nothing of reports of before."""
    found, results = report.results.recipes, report.results
    keys = ("start", f"autoencoders.{results.control}", f"generators.{row.generator}")
    return [json.dumps([found.get(key) for key in keys])] if found else []


def _names_files(results: SweepResults, generator: str) -> bool:
    """Whether a config of the control or a generator is a file, which may have held anything, not a packaged one."""
    sweep = results.sweep
    arms, generators = sweep.get("autoencoders", {}), sweep.get("generators", {})
    parts = sweep.get("start"), arms.get(results.control), generators.get(generator)
    configs = [part.get("config") for part in parts if part]
    return any(config and not NAME.fullmatch(config) for config in configs)


def _without_words(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in FOR_READERS}


def _board(rows: Rows, together: bool) -> Board:
    controls = [place for place, (_, row) in enumerate(rows) if row.is_control]
    kept = [each for place, each in enumerate(rows) if place not in controls[1:]]
    entries = [_entry(report, row) for report, row in kept]
    intervals = [_ends(row) for _, row in kept]
    values = [each.speed_up.value for each in entries]
    ranked = standings(values, intervals, higher_is_better=True, above=_beaten(kept))
    placed = [replace(entry, speed_up=standing) for entry, standing in zip(entries, ranked, strict=True)]
    first = entries[0]
    title = f"{first.generator_label}, against {first.control_label}"
    return Board(TOGETHER.capitalize() if together else title, sorted(placed, key=_order))


def _beaten(rows: Sequence[tuple[Report, LeaderboardRow]]) -> dict[int, int]:
    """{place of an arm that a race stopped: place of the arm that was faster there}, the one control being all's."""
    found = {}
    for place, (report, row) in enumerate(rows):
        for other, (theirs, rival) in enumerate(rows):
            same = theirs is report and rival.generator == row.generator and rival.arm == row.beaten_by
            is_the_control = rival.is_control and report.results.control == row.beaten_by
            if row.beaten_by is not None and (same or is_the_control):
                found[place] = other
    return found


def _ends(row: LeaderboardRow) -> Ends | None:
    if row.verdict is not None:
        return ends_of_verdict(row.verdict)
    return (1.0, 1.0) if row.is_control else None


def _order(entry: Entry) -> tuple[float, float]:
    rank = entry.speed_up.rank
    return float("inf") if rank is None else rank, -(entry.speed_up.value or 0)


def _entry(report: Report, row: LeaderboardRow) -> Entry:
    results = report.results
    return Entry(
        report=report.name,
        title=results.title,
        path=str(report.path),
        arm_label=row.arm_label,
        generator_label=row.generator_label,
        control_label=next(arm.label for arm in results.arms if arm.name == results.control),
        metric_label=results.metric_label,
        num_steps=row.num_steps,
        is_control=row.is_control,
        verdict=row.verdict,
        num_seeds=row.num_seeds if row.verdict is None else row.verdict.num_seeds,
        created=results.created,
        hardware=results.hardware,
        speed_up=row.columns[SPEED_UP],
    )

"""The report's charts: learning curves, speed-ups, equivariance errors."""

# ruff: noqa: RUF001 (readers are shown the true signs: ×, −, ’)

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from twostage.analysis.comparison import Comparison, curves_by_seed
from twostage.analysis.curves import LearningCurve
from twostage.analysis.records import GeneratorEntry, SweepResults
from twostage.analysis.summary import ErrorRow, Summary
from twostage.analysis.words import ratio_text, verdict_text
from twostage.report.agreement import agreement
from twostage.report.charts import MARKERS, Chart, DrawnChart, Theme, ratio_ticks, write_chart

MINIMUM_TICK_GAP = math.log(1.35)


def write_figures(folder: Path, results: SweepResults, summary: Summary) -> list[DrawnChart]:
    """Draw every chart into `folder`/figures."""
    compared = {comparison.generator for comparison in summary.comparisons}
    charts = [agreement(results, summary)] if summary.agreements else []
    charts += [learning_curves(results, each) for each in results.generators if each.name in compared]
    charts.append(speed_ups(results, summary))
    if summary.equivariance["latent"]:
        charts.append(equivariance(results, summary))
    return [write_chart(folder, chart) for chart in charts]


def learning_curves(results: SweepResults, generator: GeneratorEntry) -> Chart:
    """A thin line per seed, the mean over seeds, and the band between the lowest and the highest seed."""
    curves = {arm.name: curves_by_seed(results, arm.name, generator.name) for arm in results.arms}
    means = {arm: _mean_curve(list(by_seed.values())) for arm, by_seed in curves.items() if by_seed}
    labels = {arm.name: arm.label for arm in results.arms}
    ends = "; ".join(
        f"{labels[arm]} ends at {mean[1][-1]:.4g} after {mean[0][-1]:,.0f} steps" for arm, mean in means.items()
    )

    def draw(figure: Figure, theme: Theme, narrow: bool) -> None:
        axes, colours = figure.subplots(), theme.colours(results)
        for marker, (arm, (steps, mean, low, high)) in zip(MARKERS * len(means), means.items()):
            for curve in curves[arm].values():
                axes.plot(curve.steps, curve.values, color=colours[arm], linewidth=0.8, alpha=0.45)
            axes.fill_between(steps, low, high, color=colours[arm], alpha=0.13, linewidth=0)
            style = {"linewidth": 2.4, "marker": marker, "markersize": 5, "zorder": 3}
            axes.plot(steps, mean, color=colours[arm], label=labels[arm], **style)
        _mark_common_level(axes, theme, {arm: mean[1] for arm, mean in means.items()}, results.control)
        _step_axis(axes, sorted({step for mean in means.values() for step in mean[0]}))
        axes.set_xlabel("training steps of the generator (log scale)")
        title = f"{results.metric_label}, lower is better"
        axes.set_title(title, loc="left", color=theme.muted, fontsize=10.5, pad=14)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.grid(axis="y")
        last = {arm: (mean[0][-1], mean[1][-1]) for arm, mean in means.items()}
        _label_lines(axes, last, labels, colours, narrow)

    return Chart(
        name=f"learning-curves-{generator.name}",
        title=f"Learning curves of {generator.label}",
        alternative=f"{results.metric_label} against training steps of {generator.label}, mean of seeds: {ends}.",
        draw=draw,
        wide=(8.6, 4.5),
        narrow=(4.3, 4.5),
    )


def _mean_curve(curves: list[LearningCurve]) -> tuple[list[float], np.ndarray, np.ndarray, np.ndarray]:
    """Steps that all seeds share; mean, lowest and highest value there (the longest curve where they share none)."""
    steps = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
    if not steps:
        longest = max(curves, key=lambda curve: len(curve.steps))
        values = np.asarray(longest.values)
        return list(longest.steps), values, values, values
    values = np.array([[dict(zip(curve.steps, curve.values))[step] for step in steps] for curve in curves])
    return steps, values.mean(0), values.min(0), values.max(0)


def _mark_common_level(axes: Axes, theme: Theme, means: dict[str, np.ndarray], control: str) -> None:
    """The level the speed-up is read at where there is one treated arm: the gap between the curves along this line."""
    if control not in means or len(means) != 2:
        return
    level = max(float(mean.min()) for mean in means.values())
    axes.axhline(level, color=theme.muted, linewidth=0.9, dashes=(4, 3), zorder=1)
    axes.annotate(
        "last level both arms reached", (0, level), xycoords=("axes fraction", "data"), xytext=(2, -4),
        textcoords="offset points", va="top", color=theme.muted, fontsize=9,
    )  # fmt: skip


def _step_axis(axes: Axes, steps: list[float]) -> None:
    """Log axis with ticks at evaluated steps, thinned so that labels do not touch."""
    ticks = [steps[-1]]
    for step in reversed(steps[:-1]):
        if math.log(ticks[-1] / step) >= MINIMUM_TICK_GAP:
            ticks.append(step)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{step:,.0f}" for step in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.03, y=0.08)


def _label_lines(axes: Axes, ends: dict, labels: dict, colours: dict, narrow: bool) -> None:
    """Name each line where it ends; a narrow chart has no room there and names them above."""
    if narrow:
        axes.legend(loc="upper right", frameon=False, labelcolor="linecolor", prop={"weight": "bold"})
        return
    low, high = axes.get_ylim()
    minimum_gap, previous = 0.075 * (high - low), -math.inf
    for arm, (step, value) in sorted(ends.items(), key=lambda item: item[1][1]):
        height = max(value, previous + minimum_gap)
        previous = height
        axes.annotate(labels[arm], (step, height), xytext=(18, 0), textcoords="offset points", va="center",
                      color=colours[arm], fontweight="bold", annotation_clip=False)  # fmt: skip


@dataclass(frozen=True)
class _Row:
    """A row of the speed-up chart: a seed's ratio (low = high), or the interval of all; None where nothing is known."""

    label: str
    text: str
    low: float | None
    high: float | None
    kind: str
    arm: str
    heading: str = ""  # of its comparison, above its first row


def speed_ups(results: SweepResults, summary: Summary) -> Chart:
    """One row per seed and one for the interval over seeds, on a log axis with 1 (no speed-up) marked."""
    several = len(results.generators) > 1
    rows = [row for comparison in summary.comparisons for row in _rows(comparison, several)]
    heights = np.cumsum([1.0 + 0.7 * bool(row.heading) for row in rows])
    size = 0.9 + 0.34 * float(heights[-1])

    def draw(figure: Figure, theme: Theme, narrow: bool) -> None:
        axes, colours = figure.subplots(), theme.colours(results)
        axes.set_xscale("log")
        axes.axvline(1, color=theme.muted, linewidth=1)
        for row, height in zip(rows, heights):
            _draw_row(axes, row, height, colours[row.arm], theme)
        axes.set_ylim(heights[-1] + 0.7, heights[0] - 1.6)
        axes.set_yticks(heights, [row.label for row in rows])
        ends = [end for row in rows for end in (row.low, row.high) if end] + [1.0]
        # The text of each ratio stands right of its mark and needs room there.
        first, last = min(ends) / 1.25, max(ends) * (2.6 if narrow else 1.7)
        axes.set_xlim(first, last)
        ticks = ratio_ticks(first, max(ends) * 1.1)
        axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("steps of the control / steps of the arm\n(right of 1×: faster than the control)")

    texts = "; ".join(f"{row.label}: {row.text}" for row in rows)
    title = "Speed-up at the last level both arms reached"
    return Chart("speedups", title, texts + ".", draw, (8.6, size), (4.3, size))


def _rows(comparison: Comparison, several: bool) -> list[_Row]:
    heading = comparison.arm_label + (f", {comparison.generator_label}" if several else "")
    rows = []
    for each in comparison.per_seed:
        assert each.speed_up is not None, "a verdict's seeds reach its level"
        ratio, kind = each.speed_up.ratio, each.speed_up.kind
        first = "" if rows else heading
        rows.append(_Row(f"seed {each.seed}", ratio_text(each.speed_up), ratio, ratio, kind, comparison.arm, first))
    verdict = comparison.verdict
    if verdict.low is not None:
        name = f"{100 * (1 - verdict.level):.4g} % interval"
        rows.append(_Row(name, verdict_text(verdict), verdict.low, verdict.high, "value", comparison.arm))
    return rows


def _draw_row(axes: Axes, row: _Row, height: float, colour: str, theme: Theme) -> None:
    """A dot for a seed, a bar for the interval, an arrow where it is a bound, and the text to the right."""
    beside: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    if row.heading:
        box = {"facecolor": theme.background, "linewidth": 0}
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
        axes.annotate(row.heading, (0, height - 0.85), color=colour, fontweight="bold", bbox=box, **place)
    if row.low is None or row.high is None:
        axes.annotate(row.text, (1, height), xytext=(8, 0), color=theme.muted, **beside)
        return
    if row.low == row.high:
        axes.plot(row.low, height, "o", color=colour, markersize=7)
    else:
        axes.plot([row.low, row.high], [height] * 2, color=colour, linewidth=6, alpha=0.45)
    direction = {"at most": -26, "at least": 26}.get(row.kind, 0)
    if direction:
        arrow = {"arrowstyle": "<|-", "color": colour, "linewidth": 1.6}
        axes.annotate("", (row.high, height), xytext=(direction, 0), arrowprops=arrow, **beside)
    offset = 34 if row.kind == "at least" else 12
    axes.annotate(row.text, (row.high, height), xytext=(offset, 0), color=theme.text, **beside)


def equivariance(results: SweepResults, summary: Summary) -> Chart:
    """A dot per arm and transform, whiskers over seeds, a line from the control to the arm under question."""
    labels = {arm.name: arm.label for arm in results.measured_arms}
    arms = list(labels)
    tables = {space: rows for space, rows in summary.equivariance.items() if rows}
    num_rows = max(len(rows) for rows in tables.values())

    def draw(figure: Figure, theme: Theme, narrow: bool) -> None:
        colours, shape = theme.colours(results), (len(tables), 1) if narrow else (1, len(tables))
        panels = figure.subplots(*shape, squeeze=False, sharey=True).flat
        for panel, (space, rows) in zip(panels, tables.items()):
            _draw_errors(panel, rows, arms, colours)
            title = {"latent": "Latents", "decoded": "Decoded images"}[space]
            panel.set_title(title, loc="left", color=theme.muted, fontsize=9.5)
            panel.set_xlabel("relative squared error, lower is better", fontsize=9.5)
        for column, arm in enumerate(arms):
            panels[0].plot([], [], MARKERS[column % len(MARKERS)], color=colours[arm], label=labels[arm])
        figure.legend(loc="outside upper left", ncols=1 if narrow else len(arms), frameon=False, labelcolor=theme.text)

    mean = summary.equivariance["latent"][-1].arms
    text = "; ".join(f"{labels[arm]} {mean[arm].mean:.3g}" for arm in arms if arm in mean)
    height = 0.36 * num_rows
    return Chart(
        name="equivariance",
        title="Equivariance error per transform",
        alternative=f"Relative squared equivariance error of the latents, mean of transforms: {text}.",
        draw=draw,
        wide=(8.6, 1.7 + height),
        narrow=(4.3, 1.2 + 0.25 * len(arms) + len(tables) * (0.9 + height)),
    )


def _draw_errors(axes: Axes, rows: list[ErrorRow], arms: list[str], colours: dict[str, str]) -> None:
    for height, row in enumerate(rows):
        present = [arm for arm in arms if arm in row.arms]
        means = [row.arms[arm].mean for arm in present]
        axes.plot([min(means), max(means)], [height] * 2, color=axes.spines["bottom"].get_edgecolor(), linewidth=3)
        for arm in present:
            spread, marker = row.arms[arm], MARKERS[arms.index(arm) % len(MARKERS)]
            axes.plot([spread.low, spread.high], [height] * 2, color=colours[arm], linewidth=1.6)
            axes.plot(spread.mean, height, marker, color=colours[arm], markersize=6.5)
    axes.set_yticks(range(len(rows)), [row.transform for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x")

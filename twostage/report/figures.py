"""The report's charts as PNG files, each drawn for a light and a dark page and for a wide and a narrow screen."""

# ruff: noqa: RUF001 (readers are shown the true signs: ×, −, ’)

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from eqvae.files import write_atomically
from twostage.analysis.summary import curves_by_seed, measured_arms

RESOLUTION = 180
MINIMUM_TICK_GAP = math.log(1.35)
FONTS = ["Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"]
MARKERS = "osD^v"


@dataclass(frozen=True)
class Theme:
    """Colours of one chart; the treated arms' are Okabe and Ito's (safe for colour-blind readers), per page."""

    name: str
    background: str
    text: str
    muted: str
    line: str
    start: str
    control: str
    treated: tuple[str, ...]

    def colours(self, results: dict) -> dict[str, str]:
        """{arm: colour}: greys for the start and the control, a hue for each arm under question."""
        treated = [arm["name"] for arm in results["arms"] if arm["name"] != results["control"]]
        hues = {name: self.treated[i % len(self.treated)] for i, name in enumerate(treated)}
        return {"start": self.start, results["control"]: self.control} | hues


LIGHT = Theme(
    "light", "#ffffff", "#1b2127", "#5b6670", "#dfe3e7", "#a3adb6", "#4c5863", ("#0068a5", "#c24e00", "#00795a")
)
DARK = Theme(
    "dark", "#171c21", "#e8ecef", "#9ba7b1", "#313a42", "#67737e", "#c3ccd4", ("#5ab4f0", "#f08a4b", "#3fc79a")
)

Drawing = Callable[[Figure, Theme, bool], None]


@dataclass(frozen=True)
class Chart:
    """A chart with what a reader needs who cannot see it, and its size in inches on a wide and a narrow screen."""

    name: str
    title: str
    alternative: str
    draw: Drawing
    wide: tuple[float, float]
    narrow: tuple[float, float]


def write_figures(folder: Path, results: dict, summary: dict) -> list[dict]:
    """Draw every chart into `folder`/figures.

    Returns:
        One record per chart: `name`, `title`, `alternative` (text) and `files`, {"light" | "dark" | "narrow-light" |
        "narrow-dark": path relative to `folder`}.
    """
    compared = {comparison["generator"] for comparison in summary["comparisons"]}
    charts = [
        learning_curves(results, generator) for generator in results["generators"] if generator["name"] in compared
    ]
    charts.append(speedups(results, summary))
    if summary["equivariance"]["latent"]:
        charts.append(equivariance(results, summary))
    return [
        {"name": c.name, "title": c.title, "alternative": c.alternative, "files": _write(folder, c)} for c in charts
    ]


def _write(folder: Path, chart: Chart) -> dict[str, str]:
    files = {}
    for theme, narrow in product((LIGHT, DARK), (False, True)):
        variant = f"narrow-{theme.name}" if narrow else theme.name
        with matplotlib.rc_context(_style(theme)):
            figure = Figure(figsize=chart.narrow if narrow else chart.wide, dpi=RESOLUTION, layout="constrained")
            chart.draw(figure, theme, narrow)
            png = io.BytesIO()
            figure.savefig(png, format="png", metadata={"Software": None})
        files[variant] = f"figures/{chart.name}-{variant}.png"
        write_atomically(Path(folder) / files[variant], png.getvalue())
    return files


def _style(theme: Theme) -> dict:
    return {
        "font.family": "sans-serif",
        "font.sans-serif": FONTS,
        "font.size": 10.5,
        "text.color": theme.text,
        "figure.facecolor": theme.background,
        "axes.facecolor": theme.background,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "grid.color": theme.line,
        "grid.linewidth": 0.7,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "ytick.major.size": 0,
        "lines.solid_capstyle": "round",
    }


def learning_curves(results: dict, generator: dict) -> Chart:
    """A thin line per seed, the mean over seeds, and the band between the lowest and the highest seed."""
    curves = {arm["name"]: curves_by_seed(results, arm["name"], generator["name"]) for arm in results["arms"]}
    means = {arm: _mean_curve(list(by_seed.values())) for arm, by_seed in curves.items() if by_seed}
    labels = {arm["name"]: arm["label"] for arm in results["arms"]}
    ends = "; ".join(
        f"{labels[arm]} ends at {mean[1][-1]:.4g} after {mean[0][-1]:,} steps" for arm, mean in means.items()
    )

    def draw(figure: Figure, theme: Theme, narrow: bool) -> None:
        axes, colours = figure.subplots(), theme.colours(results)
        for marker, (arm, (steps, mean, low, high)) in zip(MARKERS * len(means), means.items()):
            for seed_curve in curves[arm].values():
                axes.plot(*seed_curve, color=colours[arm], linewidth=0.8, alpha=0.45)
            axes.fill_between(steps, low, high, color=colours[arm], alpha=0.13, linewidth=0)
            axes.plot(
                steps, mean, color=colours[arm], linewidth=2.4, marker=marker, markersize=5, zorder=3, label=labels[arm]
            )
        _mark_control_level(axes, theme, means.get(results["control"]))
        _step_axis(axes, sorted({step for mean in means.values() for step in mean[0]}))
        axes.set_xlabel("training steps of the generator (log scale)")
        axes.set_title(
            f"{results['metric_label']}, lower is better", loc="left", color=theme.muted, fontsize=10.5, pad=14
        )
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.grid(axis="y")
        ends = {arm: (mean[0][-1], mean[1][-1]) for arm, mean in means.items()}
        _label_lines(axes, ends, labels, colours, narrow)

    return Chart(
        name=f"learning-curves-{generator['name']}",
        title=f"Learning curves of {generator['label']}",
        alternative=f"{results['metric_label']} against training steps of {generator['label']}, mean of seeds: {ends}.",
        draw=draw,
        wide=(8.6, 4.5),
        narrow=(4.3, 4.5),
    )


def _mean_curve(curves: list) -> tuple[list, np.ndarray, np.ndarray, np.ndarray]:
    """Steps that all seeds share; mean, lowest and highest value there (the longest curve where they share none)."""
    steps = sorted(set.intersection(*(set(steps) for steps, _ in curves)))
    if not steps:
        steps, values = max(curves, key=lambda curve: len(curve[0]))
        return list(steps), *(np.asarray(values),) * 3
    values = np.array([[dict(zip(*curve))[step] for step in steps] for curve in curves])
    return steps, values.mean(0), values.min(0), values.max(0)


def _mark_control_level(axes: Axes, theme: Theme, mean_curve: tuple | None) -> None:
    """The level the speed-up is measured at: read the gap between the curves along this line."""
    if mean_curve is None:
        return
    level = float(mean_curve[1].min())
    axes.axhline(level, color=theme.muted, linewidth=0.9, dashes=(4, 3), zorder=1)
    axes.annotate(
        "control’s final level", (0, level), xycoords=("axes fraction", "data"), xytext=(2, -4),
        textcoords="offset points", va="top", color=theme.muted, fontsize=9,
    )  # fmt: skip


def _step_axis(axes: Axes, steps: list) -> None:
    """Log axis with ticks at evaluated steps, thinned so that labels do not touch."""
    ticks = [steps[-1]]
    for step in reversed(steps[:-1]):
        if math.log(ticks[-1] / step) >= MINIMUM_TICK_GAP:
            ticks.append(step)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{step:,}" for step in ticks])
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


def speedups(results: dict, summary: dict) -> Chart:
    """One row per seed and one for all seeds together, on a log axis with 1 (no speed-up) marked."""
    rows = [
        row for comparison in summary["comparisons"] for row in _speedup_rows(comparison, len(results["generators"]))
    ]
    heights = np.cumsum([1.0 + 0.7 * row["first"] for row in rows])
    size = 0.9 + 0.34 * float(heights[-1])

    def draw(figure: Figure, theme: Theme, narrow: bool) -> None:
        axes, colours = figure.subplots(), theme.colours(results)
        axes.set_xscale("log")
        axes.axvline(1, color=theme.muted, linewidth=1)
        for row, height in zip(rows, heights):
            _draw_speedup_row(axes, row, height, colours[row["arm"]], theme)
        axes.set_ylim(heights[-1] + 0.7, heights[0] - (1.6 if rows[0]["group"] else 0.9))
        axes.set_yticks(heights, [row["label"] for row in rows])
        ends = [row["low"] for row in rows if row["low"]] + [row["high"] for row in rows if row["high"]] + [1.0]
        # The text of each ratio stands right of its mark and needs room there.
        axes.set_xlim(min(ends) / 1.25, max(ends) * (2.6 if narrow else 1.7))
        ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if min(ends) / 1.25 <= t <= max(ends) * 1.4]
        axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("steps of the control / steps of the arm\n(right of 1×: faster than the control)")

    texts = "; ".join(f"{row['label']}: {row['text']}" for row in rows)
    return Chart("speedups", "Speed-up to the control’s final level", texts + ".", draw, (8.6, size), (4.3, size))


def _speedup_rows(comparison: dict, num_generators: int) -> list[dict]:
    group = comparison["arm_label"] + (f", {comparison['generator_label']}" if num_generators > 1 else "")
    rows = [
        {"label": f"seed {s['seed']}", "low": s["ratio"], "high": s["ratio"], "kinds": {s["kind"]}, "text": s["text"]}
        for s in comparison["per_seed"]
    ]
    spread = comparison["speedup"]
    if len(rows) > 1 and spread["low"]:
        name = "95% interval" if spread["kind"] == "confidence interval" else "range"
        kinds = {s["kind"] for s in comparison["per_seed"]}
        rows.append(
            {"label": name, "low": spread["low"], "high": spread["high"], "kinds": kinds, "text": spread["text"]}
        )
    return [row | {"arm": comparison["arm"], "group": group, "first": i == 0} for i, row in enumerate(rows)]


def _draw_speedup_row(axes: Axes, row: dict, height: float, colour: str, theme: Theme) -> None:
    """A dot for a seed, a bar for all of them, an arrow where it is a bound, and the text to the right."""
    beside = {"textcoords": "offset points", "va": "center"}
    if row["first"]:
        box = {"facecolor": theme.background, "linewidth": 0}
        place = {"xycoords": ("axes fraction", "data"), "va": "center"}
        axes.annotate(row["group"], (0, height - 0.85), color=colour, fontweight="bold", bbox=box, **place)
    if row["low"] is None:
        axes.annotate(row["text"], (1, height), xytext=(8, 0), color=theme.muted, **beside)
        return
    if row["low"] == row["high"]:
        axes.plot(row["low"], height, "o", color=colour, markersize=7)
    else:
        axes.plot([row["low"], row["high"]], [height] * 2, color=colour, linewidth=6, alpha=0.45)
    arrow = {"arrowstyle": "<|-", "color": colour, "linewidth": 1.6}
    if row["kinds"] & {"at most", "not reached"}:
        axes.annotate("", (row["low"], height), xytext=(-26, 0), arrowprops=arrow, **beside)
    if "at least" in row["kinds"]:
        axes.annotate("", (row["high"], height), xytext=(26, 0), arrowprops=arrow, **beside)
    offset = 34 if "at least" in row["kinds"] else 12
    axes.annotate(row["text"], (row["high"], height), xytext=(offset, 0), color=theme.text, **beside)


def equivariance(results: dict, summary: dict) -> Chart:
    """A dot per arm and transform, whiskers over seeds, a line from the control to the arm under question."""
    arms = [arm["name"] for arm in measured_arms(results)]
    labels = {arm["name"]: arm["label"] for arm in measured_arms(results)}
    tables = {space: rows for space, rows in summary["equivariance"].items() if rows}
    num_rows = max(len(rows) for rows in tables.values())

    def draw(figure: Figure, theme: Theme, narrow: bool) -> None:
        colours, shape = theme.colours(results), (len(tables), 1) if narrow else (1, len(tables))
        panels = figure.subplots(*shape, squeeze=False, sharey=True).flat
        for panel, (space, rows) in zip(panels, tables.items()):
            _draw_errors(panel, rows, arms, colours)
            panel.set_title(
                {"latent": "Latents", "decoded": "Decoded images"}[space], loc="left", color=theme.muted, fontsize=9.5
            )
            panel.set_xlabel("relative squared error, lower is better", fontsize=9.5)
        for column, arm in enumerate(arms):
            marker = MARKERS[column % len(MARKERS)]
            panels[0].plot([], [], marker, color=colours[arm], label=labels[arm])
        figure.legend(loc="outside upper left", ncols=1 if narrow else len(arms), frameon=False, labelcolor=theme.text)

    mean = summary["equivariance"]["latent"][-1]["arms"]
    text = "; ".join(f"{labels[arm]} {mean[arm]['mean']:.3g}" for arm in arms if arm in mean)
    height = 0.36 * num_rows
    return Chart(
        name="equivariance",
        title="Equivariance error per transform",
        alternative=f"Relative squared equivariance error of the latents, mean of transforms: {text}.",
        draw=draw,
        wide=(8.6, 1.7 + height),
        narrow=(4.3, 1.2 + 0.25 * len(arms) + len(tables) * (0.9 + height)),
    )


def _draw_errors(axes: Axes, rows: list[dict], arms: list[str], colours: dict[str, str]) -> None:
    for height, row in enumerate(rows):
        present = [arm for arm in arms if arm in row["arms"]]
        means = [row["arms"][arm]["mean"] for arm in present]
        axes.plot([min(means), max(means)], [height] * 2, color=axes.spines["bottom"].get_edgecolor(), linewidth=3)
        for arm in present:
            spread, marker = row["arms"][arm], MARKERS[arms.index(arm) % len(MARKERS)]
            lowest, highest = (pick(v["value"] for v in spread["values"]) for pick in (min, max))
            axes.plot([lowest, highest], [height] * 2, color=colours[arm], linewidth=1.6)
            axes.plot(spread["mean"], height, marker, color=colours[arm], markersize=6.5)
    axes.set_yticks(range(len(rows)), [row["transform"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x")

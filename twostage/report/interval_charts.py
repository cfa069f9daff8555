"""Speed-ups with their intervals and seeds, fresh seeds beside a study, and equivariance errors: a row for each."""

# ruff: noqa: RUF001 (readers are shown the true signs: ×, −)

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from twostage.analysis.agreement import Agreement
from twostage.analysis.comparison import AxisRow, Comparison
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import ErrorRow, Summary
from twostage.analysis.words import agreement_sentence, agreement_values, ratio_text, verdict_text
from twostage.report.curve_charts import ROW_LABELS, SWITCH
from twostage.report.scales import Scale, ratio_ticks, short_number
from twostage.report.svg import DIAMOND, LEFT, MARKS, RIGHT, Canvas, Plot, arm_classes, arm_marks
from twostage.report.text import format_number

ROW, TRACK, BOTTOM = 52, 34, 40  # pixels: height of a row, of its track within it, of the labels below all
NAME_LINE = 15  # pixels: of the name of a fresh seed, below the band
SPREAD = 7  # pixels up and down by which seeds are spread, so that equal ones show
BAND = 13  # pixels up and down, of where fresh seeds are expected
NEAR_EDGE = 10  # percents, within which a name stands to one side of its mark
ERROR_ROW, ERROR_LEFT = 26, 118
CAPTIONS = {
    "log speed-up": "times faster than the control (log scale; right of 1× is faster)",
    "log change": "metric of the arm / of the control at the last step (left of 1× is better)",
    "difference": "metric of the arm − of the control at the last step (left of 0 is better)",
}


@dataclass(frozen=True)
class Row:
    """A comparison as it is drawn.

    Args:
        arm, label: which.
        text: to its right.
        seeds: (name, value, kind) of each seed that has a value.
        ends: of the interval of their mean.
        band: where the mean of fresh seeds is expected.
        fresh: (name, value) of these.
    """

    arm: str
    label: str
    text: str
    seeds: list[tuple[str, float, str]]
    ends: tuple[float, float] | None = None
    band: tuple[float, float] | None = None
    fresh: tuple[tuple[str, float], ...] = ()

    @property
    def height(self) -> int:
        """In pixels, with a line for the name of each fresh seed: beside its mark it would hide circles."""
        return ROW + NAME_LINE * len(self.fresh)

    def values(self) -> list[float]:
        return [
            *(value for _, value, _ in self.seeds),
            *(self.ends or ()),
            *(self.band or ()),
            *(value for _, value in self.fresh),
        ]


def speed_up_plots(results: SweepResults, summary: Summary) -> list[Plot]:
    """One chart for each of the page's units that some comparison has."""
    plots = []
    for axis, label in ROW_LABELS.items():
        rows = [_speed_up_row(results, comparison, axis_row) for comparison, axis_row in _in_unit(summary, label)]
        if rows:
            title = f"Speed-up in {SWITCH[axis]}"
            plots.append(_rows_plot(results, "speedups", title, CAPTIONS["log speed-up"], rows, True, axis))
    return plots


def _in_unit(summary: Summary, label: str) -> list[tuple[Comparison, AxisRow]]:
    return [(each, row) for each in summary.comparisons for row in each.axes if row.label == label]


def _speed_up_row(results: SweepResults, comparison: Comparison, row: AxisRow) -> Row:
    name = comparison.arm_label
    name += f", {comparison.generator_label}" if len(results.generators) > 1 else ""
    seeds = [
        (f"seed {each.seed}: {ratio_text(each.speed_up)}", each.speed_up.ratio, each.speed_up.kind)
        for each in row.per_seed
        if each.speed_up is not None and each.speed_up.ratio is not None
    ]
    low, high = row.verdict.low, row.verdict.high
    ends = None if low is None or high is None else (low, high)
    return Row(comparison.arm, name, verdict_text(row.verdict), seeds, ends)


def agreement_plots(results: SweepResults, summary: Summary) -> list[Plot]:
    """A chart for each quantity that fresh seeds are compared in; there is nearly always one."""
    plots = []
    for quantity in dict.fromkeys(each.quantity for each in summary.agreements):
        own = [each for each in summary.agreements if each.quantity == quantity]
        rows = [_agreement_row(each) for each in own]
        texts = " ".join(map(agreement_sentence, own))
        name = "agreement" if not plots else f"agreement-{len(plots) + 1}"
        title = "Fresh seeds beside the study"
        in_logs = quantity != "difference"
        plots.append(_rows_plot(results, name, title, CAPTIONS[quantity], rows, in_logs, about=texts))
    return plots


def _agreement_row(each: Agreement) -> Row:
    shown = math.exp if each.quantity != "difference" else float
    interval = each.verdict.speed_up if each.quantity == "log speed-up" else each.verdict.change
    ends = None if interval is None or interval.ends is None else tuple(sorted(map(shown, interval.ends)))
    band = None if each.low is None or each.high is None else (shown(each.low), shown(each.high))
    values = ", ".join(agreement_values(each))
    return Row(
        arm=each.arm,
        label=f"{each.arm_label}, {each.generator_label}",
        text=f"yours: {values}",
        seeds=[(f"seed {seed} of the study", shown(value), "value") for seed, value in each.published.items()],
        ends=None if ends is None else (ends[0], ends[1]),
        band=band,
        fresh=tuple((f"seed {seed}", shown(value)) for seed, value in each.fresh.items()),
    )


def _rows_plot(
    results: SweepResults,
    name: str,
    title: str,
    caption: str,
    rows: Sequence[Row],
    in_logs: bool,
    axis: str = "",
    about: str = "",
) -> Plot:
    reference = 1.0 if in_logs else 0.0
    across = Scale.around([reference, *(value for row in rows for value in row.values())], in_logs)
    if in_logs and across.high / across.low < 1.1:  # nothing to tell apart: a range that names its ends
        across = Scale(across.low / 1.05, across.high * 1.05, True)
    height = sum(row.height for row in rows) + 12
    about = about or "; ".join(f"{row.label}: {row.text}" for row in rows) + "."
    canvas = Canvas(height, f"{title}. {about}")
    group = canvas.group("axis-lines")
    for tick in ratio_ticks(across) if in_logs else across.ticks():
        place, words = across.place(tick), f"{tick:g}×" if in_logs else short_number(tick)
        canvas.line(group, (place, place), (0, height), "base" if tick == reference else "grid")
        canvas.text(group, place, height + 18, words, "tick middle")
    classes = arm_classes(results)
    top = 0
    for row in rows:
        _draw_row(canvas, canvas.group(f"arm {classes[row.arm]}", arm=row.arm), top, row, across)
        top += row.height
    return Plot(name, title, about, canvas.markup(), 0, BOTTOM, height, axis, caption)


def _draw_row(canvas: Canvas, group: ET.Element, top: float, row: Row, across: Scale) -> None:
    """Label and text above a track with band, interval, seeds and fresh seeds; the names of these below it."""
    track = top + TRACK
    if row.band is not None:
        canvas.box(group, _places(across, row.band), (track - BAND, track + BAND), "expected")
    if row.ends is not None:
        canvas.box(group, _places(across, row.ends), (track - 4, track + 4), "interval")
    for number, (told, value, kind) in enumerate(row.seeds):
        spread = SPREAD * (2 * number / (len(row.seeds) - 1) - 1) if len(row.seeds) > 1 else 0
        shape = {"at least": RIGHT, "at most": LEFT}.get(kind, MARKS[0])
        canvas.mark(group, across.place(value), round(track + spread, 1), shape, told, "open")
    for number, (told, value) in enumerate(row.fresh):
        place = across.place(value)
        canvas.mark(group, place, track, DIAMOND, told, "fresh")
        anchor = "name" if place < NEAR_EDGE else "name end" if place > 100 - NEAR_EDGE else "name middle"
        canvas.text(group, place, track + BAND + 12 + NAME_LINE * number, told, anchor)
    canvas.text(group, 0, top + 14, row.label, "heading")
    canvas.text(group, 100, top + 14, row.text, "end value")


def _places(across: Scale, ends: tuple[float, float]) -> tuple[float, float]:
    return across.place(ends[0]), across.place(ends[1])


def error_plots(results: SweepResults, summary: Summary) -> list[Plot]:
    """Equivariance errors of latents and of decoded images, a row for each transform."""
    titles = {"latent": "Equivariance error of latents", "decoded": "Equivariance error of decoded images"}
    return [
        _error_plot(results, f"equivariance-{space}", titles[space], rows)
        for space, rows in summary.equivariance.items()
        if rows
    ]


def _error_plot(results: SweepResults, name: str, title: str, rows: list[ErrorRow]) -> Plot:
    labels = {arm.name: arm.label for arm in results.measured_arms}
    across = Scale(0, 1.04 * max(spread.high for row in rows for spread in row.arms.values()) or 1)
    height = ERROR_ROW * len(rows) + 6
    means = "; ".join(f"{labels[arm]} {format_number(spread.mean)}" for arm, spread in rows[-1].arms.items())
    about = f"{title}, {rows[-1].transform}: {means}."
    canvas = Canvas(height, about)
    group = canvas.group("axis-lines")
    for tick in across.ticks(5):
        canvas.line(group, (across.place(tick), across.place(tick)), (0, height), "grid")
        canvas.text(group, across.place(tick), height + 18, short_number(tick), "tick middle")
    classes, marks = arm_classes(results), arm_marks(results)
    for number, row in enumerate(rows):
        middle = ERROR_ROW * (number + 0.5) + 3
        canvas.text(group, 0, middle + 4, row.transform, "tick end", shift=-10)
        canvas.line(group, (0, 100), (middle, middle), "grid")
        for arm, spread in row.arms.items():
            own = canvas.group(f"arm {classes[arm]}", arm=arm)
            canvas.line(own, _places(across, (spread.low, spread.high)), (middle, middle), "whisker")
            told = f"{row.transform}, {labels[arm]}: {format_number(spread.mean)}"
            canvas.mark(own, across.place(spread.mean), middle, marks[arm], told)
    caption = "relative squared error, lower is better"
    return Plot(name, title, about, canvas.markup(), ERROR_LEFT, BOTTOM, height, "", caption)

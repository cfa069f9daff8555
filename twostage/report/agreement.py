"""The chart of fresh seeds beside the published study that they check."""

# ruff: noqa: RUF001 (readers are shown the true signs: ×, −)

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from twostage.analysis.agreement import Agreement
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import Summary
from twostage.analysis.words import agreement_sentence
from twostage.report.charts import Chart, Theme, ratio_ticks

SPREAD = 0.11  # height over which a study's circles are spread, so that equal ones show
STUDY, FRESH = -0.15, 0.22  # heights of the two within a row
AXIS_LABELS = {
    "log speed-up": "steps of the control / steps of the arm\n(right of 1×: faster than the control)",
    "log change": "metric of the arm / metric of the control at the last step\n(left of 1×: better than the control)",
    "difference": "metric of the arm − metric of the control at the last step\n(left of 0: better)",
}


def agreement(results: SweepResults, summary: Summary) -> Chart:
    """A row per comparison: circles of the study, its interval, the prediction, diamonds of the fresh seeds.

    Rows of another quantity than the first one's, which is rare, have a chart axis of their own.
    """
    quantities = list(dict.fromkeys(each.quantity for each in summary.agreements))
    groups = [[each for each in summary.agreements if each.quantity == quantity] for quantity in quantities]
    size = 0.5 + 0.75 * len(groups) + 0.95 * len(summary.agreements)

    def draw(figure: Figure, theme: Theme, narrow: bool) -> None:
        heights = [len(group) for group in groups]
        panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights).flat
        for axes, group in zip(panels, groups, strict=True):
            _draw_group(axes, group, theme, theme.colours(results))

    texts = " ".join(map(agreement_sentence, summary.agreements))
    return Chart("agreement", "Fresh seeds beside the study", texts, draw, (8.6, size), (4.3, size))


def _draw_group(axes: Axes, group: list[Agreement], theme: Theme, colours: dict[str, str]) -> None:
    """Rows of one quantity, on a log axis where it is a ratio."""
    in_logs = group[0].quantity != "difference"
    reference = 1.0 if in_logs else 0.0
    axes.axvline(reference, color=theme.muted, linewidth=1)
    ends = [reference]
    for height, each in enumerate(group):
        ends += _draw_row(axes, each, height, in_logs, theme, colours[each.arm])
    if in_logs:
        _ratio_axis(axes, min(ends), max(ends))
    axes.set_yticks([])
    axes.set_ylim(len(group) - 0.4, -0.75)
    axes.set_xlabel(AXIS_LABELS[group[0].quantity])


def _draw_row(axes: Axes, each: Agreement, height: int, in_logs: bool, theme: Theme, colour: str) -> list[float]:
    """Draw a comparison; returns what must lie within the axis."""
    known = np.array(list(each.published.values()))
    fresh = np.array(list(each.fresh.values()))
    shown = np.exp if in_logs else np.asarray
    ends = [*shown(known), *shown(fresh)]
    if each.low is not None and each.high is not None:
        band = shown(np.array([each.low, each.high]))
        axes.fill_betweenx([height - 0.36, height + 0.36], *band, color=colour, alpha=0.14, linewidth=0)
        ends += [*band]
    interval = each.verdict.speed_up if each.quantity == "log speed-up" else each.verdict.change
    if interval is not None and interval.ends is not None:
        axes.plot(shown(np.array(interval.ends)), [height + STUDY] * 2, color=colour, linewidth=6, alpha=0.45)
    spread = height + STUDY + SPREAD * np.linspace(-1, 1, len(known)) if len(known) > 1 else [height + STUDY]
    axes.plot(shown(known), spread, "o", markerfacecolor="none", markeredgecolor=colour, markersize=6)
    axes.plot(shown(fresh), [height + FRESH] * len(fresh), "D", color=theme.text, markersize=7, zorder=4)
    for seed, place in zip(each.fresh, shown(fresh), strict=True):
        axes.annotate(f"seed {seed}", (place, height + FRESH), xytext=(9, 0), textcoords="offset points", va="center",
                      color=theme.text, fontweight="bold", fontsize=9)  # fmt: skip
    place = {"xycoords": ("axes fraction", "data"), "va": "bottom"}
    box = {"facecolor": theme.background, "linewidth": 0, "pad": 1}
    label = f"{each.arm_label}, {each.generator_label}"
    axes.annotate(label, (0, height - 0.42), color=colour, fontweight="bold", bbox=box, **place)
    return ends


def _ratio_axis(axes: Axes, low: float, high: float) -> None:
    axes.set_xscale("log")
    margin = max(high / low, 1.2) ** 0.06
    axes.set_xlim(low / margin, high * margin)
    ticks = ratio_ticks(low / margin, high * margin)
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())

"""Speed-up against reconstruction, one mark for each arm: `python -m studies.arms_figure STUDY RIVAL FILE`.

What beats control and rival in both lies right of the control's line and above the rival's mark.
"""

import argparse
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studies.arms_table import psnr_changes
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import summarize
from twostage.verify import find_study, read_study

matplotlib.use("Agg")

DPI = 110
NAME_WIDTH, NAME_HEIGHT = 70, 10  # points that a name takes
COLOURS = {"faster": "C2", "slower": "C3", "undecided": "0.5"}


def draw(results: SweepResults, rival: str, path: Path) -> None:
    """With the intervals of the speed-ups over the control, on the first generator."""
    changes, first = psnr_changes(results), results.generators[0].name
    figure, axis = plt.subplots(figsize=(9, 5.4), constrained_layout=True)
    axis.set_xscale("symlog", linthresh=0.1)
    axis.set_yscale("log")
    marks = []
    for each in summarize(results).comparisons:
        verdict = each.verdict
        if each.generator != first or verdict.ratio is None:
            continue
        change = changes[each.arm]
        if verdict.low is not None and verdict.high is not None:
            axis.plot([change] * 2, [verdict.low, verdict.high], color=COLOURS[verdict.word], linewidth=1.5)
        axis.plot(change, verdict.ratio, "D" if each.arm == rival else "o", color=COLOURS[verdict.word])
        marks.append((change, verdict.ratio, each.arm_label))
    axis.axvline(0, color="0.7", linewidth=1, zorder=0)
    axis.axhline(1, color="0.7", linewidth=1, zorder=0)
    _tick(axis.xaxis, [-5, -2, -1, -0.5, -0.2, -0.1, 0, 0.1])
    _tick(axis.yaxis, [0.5, 0.7, 1, 1.4, 2, 2.8])
    axis.margins(x=0.16)
    axis.set(xlabel="PSNR beside the control's, dB", ylabel="times as fast as the control, 95 % interval")
    label_marks(figure, axis, marks)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _tick(axis: Axis, values: list[float]) -> None:
    """So many ticks, in plain numbers, within what is shown."""
    low, high = axis.get_view_interval()
    axis.set_ticks([value for value in values if low <= value <= high])
    axis.set_major_formatter(lambda value, place: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
    axis.set_minor_locator(NullLocator())


def label_marks(figure: Figure, axis: Axes, marks: list[tuple[float, float, str]]) -> None:
    """Names right of their marks; one that would lie on another moves down, with a line to its mark."""
    figure.canvas.draw()  # settles where the axes lie
    placed: list[tuple[float, float]] = []
    for x, y, text in sorted(marks, key=lambda mark: -mark[1]):
        across, up = axis.transData.transform((x, y)) * 72 / figure.dpi
        down = next(
            drop
            for drop in range(0, 400, 2)
            if all(
                abs(across - other) > NAME_WIDTH or abs(up - drop - height) > NAME_HEIGHT for other, height in placed
            )
        )
        placed.append((across, up - down))
        arrow = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6} if down else None
        offset = (8 if not down else 24, 2 - down)
        axis.annotate(text, (x, y), offset, textcoords="offset points", fontsize=8, arrowprops=arrow)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="as of verify.py")
    parser.add_argument("rival", help="name of the arm that is marked")
    parser.add_argument("file", type=Path, help="PNG or SVG")
    arguments = parser.parse_args()
    draw(read_study(find_study(arguments.study)), arguments.rival, arguments.file)

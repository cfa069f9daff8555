"""Tables and figure of `studies.dose`: `python -m studies.dose_report [LINES] [--figure FILE]`.

How much faster EQ makes a generator, one point for each start, against what the start was like and what EQ did to it.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import linregress, t

from studies.arms_figure import label_marks
from studies.arms_forecast import correlation
from studies.dose import CONTROL, EQ
from studies.start_measures import mean_of
from studies.start_search import read_results
from studies.sweep_table import table
from twostage.analysis.intervals import ERROR_RATE, holm

matplotlib.use("Agg")

LINES = Path(__file__).parent / "results/dose.jsonl"
COLOURS = {"scenes": "C0", "cifar10": "C1", "shapes": "C2"}

Array = NDArray[np.float64]


def _both(each: dict) -> float:
    return (each["rotation"] + each["scale"]) / 2


NUMBERS: dict[str, Callable[[dict], float]] = {
    "equivariance error": _both,
    "rotation error": lambda line: line["rotation"],
    "scale error": lambda line: line["scale"],
    "equivariance error, standardized": lambda line: mean(
        mean_of(line["errors"]["standardized"], kind) for kind in ("rotation", "scale")
    ),
    "error that EQ removed": lambda line: _both(line["arms"][CONTROL]) - _both(line["arms"][EQ]),
    "high frequencies": lambda line: line["predictors"]["high_frequency/half_of_white"],
    "VIV": lambda line: line["predictors"]["viv/of_white"],
    "dimension": lambda line: line["predictors"]["dimension/twonn_of_white"],
    "thumbnail": lambda line: line["thumbnail_share"]["centred"],
    "PSNR": lambda line: line["psnr"],
}
"""What a gain may go with, of the start but for one; the first one is the hypothesis."""


def gains(lines: Sequence[dict]) -> Array:
    """[S] mean log speed-up of each start over seeds."""
    return np.array([mean(line["gain"].values()) for line in lines])


def half_width(lines: Sequence[dict]) -> float:
    """Of a start's 95 % interval, from the variance between seeds that all starts share."""
    spreads = [np.var(list(line["gain"].values()), ddof=1) for line in lines]
    count = len(lines[0]["gain"])
    freedom = len(lines) * (count - 1)
    return float(t.ppf(1 - ERROR_RATE / 2, freedom) * math.sqrt(mean(spreads) / count))


@dataclass(frozen=True)
class Line:
    """A straight line through gains: slope per standard deviation of a number with the ends of its interval."""

    slope: float
    low: float
    high: float
    p: float

    @classmethod
    def through(cls, across: Array, up: Array) -> "Line":
        found = linregress((across - across.mean()) / across.std(ddof=1), up)
        half = t.ppf(1 - ERROR_RATE / 2, len(up) - 2) * found.stderr
        return cls(float(found.slope), float(found.slope - half), float(found.slope + half), float(found.pvalue))


def starts_table(lines: Sequence[dict]) -> str:
    """A row for each start, the largest gain first."""
    half = half_width(lines)
    header = ["start", "rotation / scale", "after further steps", "after EQ", "PSNR by EQ", "times as fast (95 %)"]
    header.append("last distance")
    rows = []
    for line, gain in sorted(zip(lines, gains(lines), strict=True), key=lambda pair: -pair[1]):
        control, treated = line["arms"][CONTROL], line["arms"][EQ]
        ratio = f"{math.exp(gain):.2f} ({math.exp(gain - half):.2f} to {math.exp(gain + half):.2f})"
        errors = [f"{each['rotation']:.2f} / {each['scale']:.2f}" for each in (line, control, treated)]
        change = math.expm1(mean(line["change"].values()))
        bound = ", a bound" if line["bound"] else ""
        loss = f"{treated['psnr'] - control['psnr']:+.1f} dB"
        rows.append([f"`{line['name']}`", *errors, loss, ratio + bound, f"{change:+.1%}"])
    return table(header, rows).replace("-0.0 dB", "0.0 dB")


def numbers_table(lines: Sequence[dict]) -> str:
    """What the gain goes with: rank correlation, and the factor that one standard deviation more goes with."""
    up = gains(lines)
    values = {name: np.array([read(line) for line in lines]) for name, read in NUMBERS.items()}
    found = {name: Line.through(each, up) for name, each in values.items()}
    adjusted = holm([each.p for each in found.values()])
    rows = []
    for (name, line), together in zip(found.items(), adjusted, strict=True):
        rank, low, high = correlation(values[name], up)
        factor = f"{math.exp(line.slope):.2f} ({math.exp(line.low):.2f} to {math.exp(line.high):.2f})"
        rows.append([name, f"{rank:.2f} ({low:.2f} to {high:.2f})", factor, f"{line.p:.3f}", f"{together:.3f}"])
    return table(["number", "Spearman (95 %)", "gain for one SD more (95 %)", "p", "p after Holm"], rows)


def tables(lines: Sequence[dict]) -> str:
    """Both tables, and what failed."""
    failed = [f"- `{line['name']}` failed: {line['failed']}" for line in lines if "failed" in line]
    done = measured(lines)
    return "\n\n".join([starts_table(done), numbers_table(done), *(["\n".join(failed)] if failed else [])])


def measured(lines: Sequence[dict]) -> list[dict]:
    """Those whose sweep was run to its end."""
    return [line for line in lines if "failed" not in line]


def draw(lines: Sequence[dict], path: Path) -> None:
    """Gains against the start's error and against the error that EQ removed, with lines and their bands."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.6), sharey=True, constrained_layout=True)
    up, half = gains(lines), half_width(lines)
    for axis, (name, label) in zip(
        axes,
        {
            "equivariance error": "equivariance error of the start",
            "error that EQ removed": "equivariance error that EQ removed, beside the control",
        }.items(),
        strict=True,
    ):
        across = np.array([NUMBERS[name](line) for line in lines])
        _band(axis, across, up)
        for line, x, y in zip(lines, across, up, strict=True):
            axis.errorbar(x, y, half, fmt="o", color=COLOURS[line["base"]], mfc="white" if line["bound"] else None)
        axis.axhline(0, color="0.7", linewidth=1, zorder=0)
        axis.margins(x=0.22)
        axis.set_xlabel(label)
        label_marks(figure, axis, [(x, y, line["name"]) for line, x, y in zip(lines, across, up, strict=True)])
    ticks = [ratio for ratio in (0.6, 0.8, 1, 1.25, 1.5, 2) if abs(math.log(ratio)) <= max(abs(up)) + 2 * half]
    axes[0].set_yticks([math.log(ratio) for ratio in ticks], [f"{ratio:g}" for ratio in ticks])
    axes[0].set_ylabel("times as fast with EQ, 95 % interval")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _band(axis: Axes, across: Array, up: Array) -> None:
    """The least-squares line, and where its mean lies with 95 %."""
    found = linregress(across, up)
    at = np.linspace(across.min(), across.max(), 50)
    middle = found.intercept + found.slope * at
    left = up - found.intercept - found.slope * across
    spread = math.sqrt(float(left @ left) / (len(up) - 2))
    away = (at - across.mean()) ** 2 / float(((across - across.mean()) ** 2).sum())
    half = t.ppf(1 - ERROR_RATE / 2, len(up) - 2) * spread * np.sqrt(1 / len(up) + away)
    axis.plot(at, middle, color="0.4", linewidth=1)
    axis.fill_between(at, middle - half, middle + half, color="0.4", alpha=0.15, linewidth=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="?", type=Path, default=LINES)
    parser.add_argument("--figure", type=Path, help="PNG or SVG")
    arguments = parser.parse_args()
    lines = read_results(arguments.lines)
    print(tables(lines))
    if arguments.figure:
        draw(measured(lines), arguments.figure)


if __name__ == "__main__":
    main()

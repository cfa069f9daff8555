"""What every chart of the report has: its themes, its sizes, and its files."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from eqvae.files import write_atomically
from twostage.analysis.records import START, SweepResults

RESOLUTION = 180
FONTS = ["Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"]
MARKERS = "osD^v"
RATIO_TICKS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 2, 3, 5, 10, 20, 50)


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

    def colours(self, results: SweepResults) -> dict[str, str]:
        """{arm: colour}: greys for the start and the control, a hue for each arm under question."""
        hues = {arm.name: self.treated[i % len(self.treated)] for i, arm in enumerate(results.treated_arms)}
        return {START: self.start, results.control: self.control} | hues


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


@dataclass(frozen=True)
class DrawnChart:
    """A chart's files: {"light" | "dark" | "narrow-light" | "narrow-dark": path within the report's folder}."""

    name: str
    title: str
    alternative: str
    files: dict[str, str]


def write_chart(folder: Path, chart: Chart) -> DrawnChart:
    """Draw a chart for a light and a dark page, a wide and a narrow screen, each in its folder of `folder`/figures."""
    files = {}
    for theme, narrow in product((LIGHT, DARK), (False, True)):
        variant = f"narrow-{theme.name}" if narrow else theme.name
        with matplotlib.rc_context(_style(theme)):
            figure = Figure(figsize=chart.narrow if narrow else chart.wide, dpi=RESOLUTION, layout="constrained")
            chart.draw(figure, theme, narrow)
            png = io.BytesIO()
            figure.savefig(png, format="png", metadata={"Software": None})
        files[variant] = f"figures/{variant}/{chart.name}.png"
        write_atomically(Path(folder) / files[variant], png.getvalue())
    return DrawnChart(chart.name, chart.title, chart.alternative, files)


def ratio_ticks(first: float, last: float) -> list[float]:
    """Round ratios in a range, far enough from each other, 1 among them."""
    room = max(math.log(last / first) / 6, 0.05)
    kept = [1.0]
    for tick in sorted(RATIO_TICKS, key=lambda tick: abs(math.log(tick))):
        if first <= tick <= last and all(abs(math.log(tick / other)) >= room for other in kept):
            kept.append(tick)
    return sorted(kept)


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

"""Charts as SVG that fits any width: lengths across are in percent, heights, marks and text in pixels."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field

from twostage.analysis.records import START, SweepResults

HUES = 6  # of treated arms, in charts.css
MARKS = ("M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0z", "M-4,-4h8v8h-8z", "M0,-5.5L5.5,0L0,5.5L-5.5,0z",
         "M0,-5L5,4H-5z", "M0,5L5,-4H-5z")  # fmt: skip
"""Shapes of arms: circle, square, diamond, triangles; five beside six hues, so that thirty arms differ."""

RIGHT, LEFT, DIAMOND = "M-3,-6L9,0L-3,6z", "M3,-6L-9,0L3,6z", "M0,-7L7,0L0,7L-7,0z"
UNITS = 1000  # of the space that lines are drawn in, on either side


@dataclass(frozen=True)
class Plot:
    """A chart.

    Args:
        name: of its file.
        title: short.
        alternative: what it shows, for those who cannot see it.
        markup: the SVG element.
        left, bottom: pixels beside and below it that its axes' labels need.
        height: of the plotted part, in pixels.
        axis: key of what is counted along it, where there are several; "" otherwise.
        caption: of the horizontal axis.
    """

    name: str
    title: str
    alternative: str
    markup: str
    left: int
    bottom: int
    height: int
    axis: str = ""
    caption: str = ""


@dataclass
class Canvas:
    """An SVG element under construction; `across` are percents, heights are pixels.

    Args:
        height: in pixels.
        label: text for those who cannot see it.
    """

    height: int
    label: str
    root: ET.Element = field(init=False)

    def __post_init__(self):
        about = {"class": "plot", "width": "100%", "height": str(self.height), "role": "img", "aria-label": self.label}
        self.root = ET.Element("svg", about)

    def group(self, classes: str, **data: str) -> ET.Element:
        return ET.SubElement(self.root, "g", {"class": classes} | _attributes(data))

    def line(self, parent: ET.Element, across: tuple[float, float], down: tuple[float, float], classes: str) -> None:
        (x1, x2), (y1, y2) = across, down
        places = {"x1": f"{x1}%", "x2": f"{x2}%", "y1": f"{y1:g}", "y2": f"{y2:g}"}
        ET.SubElement(parent, "line", {"class": classes} | places)

    def box(self, parent: ET.Element, across: tuple[float, float], down: tuple[float, float], classes: str) -> None:
        (left, right), (top, bottom) = across, down
        places = {"x": f"{left}%", "width": f"{right - left:g}%", "y": f"{top:g}", "height": f"{bottom - top:g}"}
        ET.SubElement(parent, "rect", {"class": classes} | places)

    def text(
        self, parent: ET.Element, across: float, down: float, words: str, classes: str = "", shift: float = 0
    ) -> None:
        """Words at a place; classes `end` and `middle` anchor them there by their end or middle."""
        anchor = next((name for name in ("end", "middle") if name in classes.split()), "start")
        places = {"x": f"{across}%", "y": f"{down:g}", "dx": f"{shift:g}", "text-anchor": anchor}
        ET.SubElement(parent, "text", {"class": classes} | places).text = words

    def mark(
        self, parent: ET.Element, across: float, down: float, shape: str, title: str, classes: str = "", **data: str
    ) -> None:
        """A shape in pixels around a place, with what a pointer over it is told."""
        places = {"x": f"{across}%", "y": f"{down:g}", "overflow": "visible", "class": f"mark {classes}".strip()}
        mark = ET.SubElement(parent, "svg", places | _attributes(data))
        ET.SubElement(mark, "title").text = title
        ET.SubElement(mark, "path", {"d": shape})

    def lines(self, parent: ET.Element) -> ET.Element:
        """Space for `polyline` and `polygon`, stretched to the chart without their strokes."""
        stretched = {"width": "100%", "height": str(self.height), "viewBox": f"0 0 {UNITS} {UNITS}"}
        about = {"preserveAspectRatio": "none", "overflow": "visible", "class": "lines"}
        return ET.SubElement(parent, "svg", stretched | about)

    def path(
        self, space: ET.Element, places: Iterable[tuple[float, float]], classes: str, closed: bool = False
    ) -> None:
        """A line through places, both coordinates in percent, in a space of `lines`."""
        points = " ".join(f"{UNITS * x / 100:.4g},{UNITS * y / 100:.4g}" for x, y in places)
        about = {"class": classes, "points": points, "vector-effect": "non-scaling-stroke"}
        ET.SubElement(space, "polygon" if closed else "polyline", about)

    def markup(self) -> str:
        return ET.tostring(self.root, encoding="unicode")


def _attributes(data: dict[str, str]) -> dict[str, str]:
    return {f"data-{name.replace('_', '-')}": value for name, value in data.items()}


def arm_classes(results: SweepResults) -> dict[str, str]:
    """{arm: class that gives its colour}: greys for start and control, a hue for each arm under question."""
    hues = {arm.name: f"arm-{1 + place % HUES}" for place, arm in enumerate(results.treated_arms)}
    return {START: "arm-start", results.control: "arm-control"} | hues


def arm_marks(results: SweepResults) -> dict[str, str]:
    """{arm: shape}."""
    names = [START, results.control, *(arm.name for arm in results.treated_arms)]
    return {name: MARKS[place % len(MARKS)] for place, name in enumerate(names)}

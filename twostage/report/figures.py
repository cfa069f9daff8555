"""The report's charts, and each of them as an SVG file that stands alone."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from eqvae.files import write_atomically
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import Summary
from twostage.report.curve_charts import SWITCH, curve_plots
from twostage.report.interval_charts import agreement_plots, error_plots, speed_up_plots
from twostage.report.svg import Plot, arm_classes

STYLE = Path(__file__).parent / "templates" / "charts.css"
NAMESPACE = "http://www.w3.org/2000/svg"
WIDTH, EDGE, TOP, LEGEND = 860, 20, 44, 24  # pixels: of a file, around its chart, above it, of a line of the legend
CAPTION = 22


@dataclass(frozen=True)
class Figures:
    """Every chart of a report.

    Args:
        agreement: fresh seeds beside a study.
        curves: by generator, one chart for each unit.
        speed_ups: one for each unit.
        equivariance: of latents and of decoded images.
    """

    agreement: list[Plot]
    curves: dict[str, list[Plot]]
    speed_ups: list[Plot]
    equivariance: list[Plot]

    @property
    def plots(self) -> list[Plot]:
        curves = [plot for plots in self.curves.values() for plot in plots]
        return [*self.agreement, *curves, *self.speed_ups, *self.equivariance]

    @property
    def axes(self) -> dict[str, str]:
        """{key: label} of the units that some chart has, in order."""
        found = {plot.axis for plot in self.plots}
        return {axis: label for axis, label in SWITCH.items() if axis in found}


def draw_figures(results: SweepResults, summary: Summary) -> Figures:
    compared = {comparison.generator for comparison in summary.comparisons}
    return Figures(
        agreement=agreement_plots(results, summary),
        curves={each.name: curve_plots(results, each) for each in results.generators if each.name in compared},
        speed_ups=speed_up_plots(results, summary),
        equivariance=error_plots(results, summary),
    )


def write_figures(folder: Path, results: SweepResults, figures: Figures) -> list[Path]:
    """Write every chart into `folder`/figures; of those in several units each under the unit's name."""
    written = []
    for plot in figures.plots:
        path = Path(folder) / "figures" / f"{plot.name}{f'-{plot.axis}' if plot.axis else ''}.svg"
        write_atomically(path, standalone(results, plot).encode())
        written.append(path)
    return written


def standalone(results: SweepResults, plot: Plot) -> str:
    """A chart as a file: its own style, of light and dark pages, title, legend and axis."""
    arms = [arm for arm in results.measured_arms or results.arms if f'data-arm="{arm.name}"' in plot.markup]
    arms = arms or [arm for arm in results.arms if f'data-arm="{arm.name}"' in plot.markup]
    top = TOP + LEGEND
    height = top + plot.height + plot.bottom + CAPTION
    size = {"width": str(WIDTH), "height": str(height), "viewBox": f"0 0 {WIDTH} {height}"}
    root = ET.Element(
        "svg", {"xmlns": NAMESPACE, "class": "file", "role": "img", "aria-label": plot.alternative} | size
    )
    ET.SubElement(root, "style").text = STYLE.read_text()
    ET.SubElement(root, "rect", {"class": "paper", "width": "100%", "height": "100%"})
    ET.SubElement(root, "text", {"x": str(EDGE), "y": "26", "class": "title"}).text = plot.title
    classes, across = arm_classes(results), EDGE
    for arm in arms:
        name = ET.SubElement(root, "text", {"x": str(across), "y": str(TOP + 6), "class": f"name {classes[arm.name]}"})
        name.text = f"● {arm.label}"
        across += 34 + 8 * len(arm.label)
    chart = ET.fromstring(plot.markup)
    chart.attrib |= {"x": str(EDGE + plot.left), "y": str(top), "width": str(WIDTH - 2 * EDGE - plot.left)}
    chart.set("overflow", "visible")
    root.append(chart)
    below = {"x": str(WIDTH - EDGE), "y": str(height - 12), "text-anchor": "end", "class": "tick"}
    ET.SubElement(root, "text", below).text = plot.caption
    return ET.tostring(root, encoding="unicode") + "\n"

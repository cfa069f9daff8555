"""The report of a sweep: report.json, charts, one self-contained HTML page, and a table for the terminal."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eqvae.evaluation.metrics import find_metric, in_order
from eqvae.files import write_atomically
from twostage.analysis.racing import stop_sentence
from twostage.analysis.records import START, SweepResults
from twostage.analysis.summary import Spread, Summary, summarize
from twostage.report.figures import draw_figures, write_figures
from twostage.report.files import report_json
from twostage.report.page import arm_labels, render_page
from twostage.report.templating import environment
from twostage.report.text import with_range

TERMINAL_WIDTH = 110


def write_report(folder: Path, results: SweepResults) -> Path:
    """Write report.json (results with their `summary`), figures/, report.html and report.md into `folder`.

    Every file is whole or absent. Images that the results name must lie in `folder` as PNG.

    Returns:
        The path of report.html, one file that needs no other.

    Raises:
        ValueError: the results cannot be compared (see `summarize`).
        FileNotFoundError: an image that the results name is not in `folder`.
    """
    folder, summary = Path(folder), summarize(results)
    figures = draw_figures(results, summary)
    page = render_page(folder, results, summary, figures)
    write_figures(folder, results, figures)
    write_atomically(folder / "report.json", report_json(results, summary))
    write_atomically(folder / "report.html", page.encode())
    write_atomically(folder / "report.md", render_markdown(results, summary).encode())
    return folder / "report.html"


def render_markdown(results: SweepResults, summary: Summary) -> str:
    """The same findings as Markdown for a pull request: headline, tables, differences, commands; no images."""
    columns = _columns(results)
    rows = [(label, [with_range(cells.get(arm)) for arm in columns]) for label, cells in _table_rows(results, summary)]
    template = environment(autoescape=False).get_template("report.md.jinja")
    return template.render(
        results=results,
        summary=summary,
        labels=arm_labels(results),
        rows=rows,
        columns=columns,
        stopped=lambda each: stop_sentence(results, each),
    )


def _columns(results: SweepResults) -> list[str]:
    """Arms of the comparison tables, the common start first where it was measured."""
    measured = [arm.name for arm in results.measured_arms]
    return [name for name in measured if name == START] + [arm.name for arm in results.arms]


def terminal_table(results: SweepResults) -> str:
    """Plain text for the terminal: metrics per arm, mean [lowest, highest] over seeds, and the headline."""
    summary = summarize(results)
    table = Table(title=Text(results.title), title_justify="left", title_style="bold")
    columns, labels = _columns(results), arm_labels(results)
    table.add_column(Text("mean [lowest, highest] over seeds"))
    for arm in columns:
        table.add_column(Text(labels[arm]), justify="right")
    for label, cells in _table_rows(results, summary):
        table.add_row(Text(label), *(Text(with_range(cells.get(arm))) for arm in columns))
    written = io.StringIO()
    console = Console(file=written, width=TERMINAL_WIDTH)
    console.print(table)
    for line in (summary.headline, *(stop_sentence(results, each) for each in results.stopped)):
        console.print(line, markup=False, highlight=False)
    return written.getvalue()


def _table_rows(results: SweepResults, summary: Summary) -> Iterator[tuple[str, dict[str, Spread]]]:
    """(label, {arm: spread}) of the autoencoders' metrics, then of each generator's at the last shared step."""
    autoencoders = {row.arm: row.metrics for row in summary.autoencoders}
    for name in in_order(autoencoders.values()):
        cells = {arm: metrics[name] for arm, metrics in autoencoders.items() if name in metrics}
        yield find_metric(name).heading, cells
    for space, errors in summary.equivariance.items():
        if errors:
            metric = find_metric(f"equivariance/{space}")
            yield replace(metric, label=f"{metric.label}, {space}").heading, errors[-1].arms
    for generator in results.generators:
        rows = [row for row in summary.last_step if row.generator == generator.name]
        for name in in_order(row.metrics for row in rows):
            heading = find_metric(name).heading
            label = f"{generator.label}, {heading} after {rows[0].num_steps:,} steps"
            yield label, {row.arm: row.metrics[name] for row in rows if name in row.metrics}

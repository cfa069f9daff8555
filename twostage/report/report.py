"""The report of a sweep: report.json, charts, one self-contained HTML page, and a table for the terminal."""

import base64
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eqvae.evaluation.metrics import find_metric, in_order
from eqvae.files import write_atomically
from twostage.analysis.agreement import Agreement
from twostage.analysis.comparison import Comparison
from twostage.analysis.records import START, SweepResults
from twostage.analysis.summary import Spread, Summary, summarize
from twostage.analysis.words import (
    agreement_sentence,
    agreement_values,
    change_interval_text,
    interval_text,
    ratio_text,
    seeds_text,
    sentence,
    signed_percent,
    verdict_text,
)
from twostage.report.charts import DrawnChart
from twostage.report.figures import write_figures
from twostage.report.files import report_json
from twostage.report.text import format_duration, format_number, with_range

TEMPLATES = Path(__file__).parent / "templates"
TERMINAL_WIDTH = 110


@dataclass(frozen=True)
class Card:
    """A number at the top of the page."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class SampleGroup:
    """Sample grids of a generator and seed: {step: {arm: file}}."""

    generator: str
    seed: int
    steps: dict[int, dict[str, str]]


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
    figures = write_figures(folder, results, summary)
    page = render_page(folder, results, summary, figures)
    write_atomically(folder / "report.json", report_json(results, summary))
    write_atomically(folder / "report.html", page.encode())
    write_atomically(folder / "report.md", render_markdown(results, summary).encode())
    return folder / "report.html"


def render_page(folder: Path, results: SweepResults, summary: Summary, figures: list[DrawnChart]) -> str:
    """The HTML page, images and style inside it, no script, nothing loaded from elsewhere."""
    return (
        _environment(autoescape=True)
        .get_template("report.html.jinja")
        .render(
            results=results,
            summary=summary,
            figures=figures,
            cards=cards(results, summary),
            labels=_labels(results),
            samples=group_samples(results),
            embed=lambda file: _embed(folder, file),
        )
    )


def render_markdown(results: SweepResults, summary: Summary) -> str:
    """The same findings as Markdown for a pull request: headline, tables, differences, commands; no images."""
    rows = [
        (label, [with_range(cells.get(arm)) for arm in _columns(results)])
        for label, cells in _table_rows(results, summary)
    ]
    template = _environment(autoescape=False).get_template("report.md.jinja")
    return template.render(
        results=results, summary=summary, labels=_labels(results), rows=rows, columns=_columns(results)
    )


def _environment(autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "percent": signed_percent,
        "duration": format_duration,
        "json": json.dumps,
        "setting": lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        "metric_names": in_order,
        "metric": lambda name: find_metric(name).heading,
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
        "ratio_text": ratio_text,
        "verdict_text": verdict_text,
        "interval_text": interval_text,
        "change_interval": change_interval_text,
        "expm1": math.expm1,
        "sentence": sentence,
        "agreement": agreement_sentence,
        "seeds": seeds_text,
    }
    return environment


def _labels(results: SweepResults) -> dict[str, str]:
    return {START: "Common start"} | {arm.name: arm.label for arm in results.arms}


def _columns(results: SweepResults) -> list[str]:
    """Arms of the comparison tables, the common start first where it was measured."""
    measured = [arm.name for arm in results.measured_arms]
    return [name for name in measured if name == START] + [arm.name for arm in results.arms]


def cards(results: SweepResults, summary: Summary) -> list[Card]:
    """The page's cards: verdict and change per comparison, then what fine-tuning did to the autoencoder."""
    several = len(summary.comparisons) > 1
    if summary.agreements:
        found = [card for agreement in summary.agreements for card in _agreement_cards(agreement, several)]
    else:
        found = [card for comparison in summary.comparisons for card in _verdict_cards(comparison, several)]
    for arm in results.treated_arms:
        found += _autoencoder_cards(results, summary, arm.name, arm.label)
    return found


def _agreement_cards(agreement: Agreement, several: bool) -> Iterator[Card]:
    """The study's verdict as the study's, and whether the fresh seeds agree with it."""
    suffix = f" · {agreement.arm_label}, {agreement.generator_label}" if several else ""
    verdict = agreement.verdict
    yield Card(f"Published{suffix}", verdict.word, f"{verdict_text(verdict)} in steps, {seeds_text(verdict.num_seeds)}")
    word = {True: "agrees", False: "disagrees", None: "no answer"}[agreement.agrees]
    values = f"{', '.join(agreement_values(agreement))}, {seeds_text(len(agreement.fresh))}"
    yield Card(f"Yours{suffix}", word, values)


def _verdict_cards(comparison: Comparison, several: bool) -> Iterator[Card]:
    verdict, change = comparison.verdict, comparison.verdict.change
    suffix = f" · {comparison.arm_label}, {comparison.generator_label}" if several else ""
    sure = interval_text(verdict) if verdict.low is not None else "no interval"
    size = verdict_text(verdict).partition(" (")[0]
    yield Card(f"Speed-up in steps{suffix}", size, f"{verdict.word}: {sure}, {seeds_text(verdict.num_seeds)}")
    if change is not None and comparison.in_logs:
        detail = change_interval_text(change) if change.low is not None else seeds_text(change.num_seeds)
        yield Card(f"Change after equally many steps{suffix}", signed_percent(change.mean), detail)


def _autoencoder_cards(results: SweepResults, summary: Summary, arm: str, label: str) -> Iterator[Card]:
    """Equivariance error and reconstruction, control → arm, means over seeds."""
    rows = {row.arm: row.metrics for row in summary.autoencoders}
    errors = summary.equivariance["latent"][-1].arms if summary.equivariance["latent"] else {}
    pairs = {"Latent equivariance error": (errors.get(results.control), errors.get(arm))}
    for name in (f"r{results.metric}", "psnr"):
        before, after = (rows.get(each, {}).get(name) for each in (results.control, arm))
        pairs[f"Reconstruction, {find_metric(name).heading}"] = (before, after)
    for title, (before, after) in pairs.items():
        if before and after:
            value = f"{format_number(before.mean)} → {format_number(after.mean)}"
            yield Card(title, value, f"control → {label}, mean over seeds")


def group_samples(results: SweepResults) -> list[SampleGroup]:
    """Sample grids by generator and seed, in order."""
    found: dict[tuple[str, int], dict[int, dict[str, str]]] = {}
    for sample in results.samples:
        steps = found.setdefault((sample.generator, sample.seed), {})
        steps.setdefault(sample.num_steps, {})[sample.arm] = sample.file
    labels = {generator.name: generator.label for generator in results.generators}
    return [
        SampleGroup(labels.get(generator, generator), seed, dict(sorted(steps.items())))
        for (generator, seed), steps in sorted(found.items())
    ]


def terminal_table(results: SweepResults) -> str:
    """Plain text for the terminal: metrics per arm, mean [lowest, highest] over seeds, and the headline."""
    summary = summarize(results)
    table = Table(title=Text(results.title), title_justify="left", title_style="bold")
    columns, labels = _columns(results), _labels(results)
    table.add_column(Text("mean [lowest, highest] over seeds"))
    for arm in columns:
        table.add_column(Text(labels[arm]), justify="right")
    for label, cells in _table_rows(results, summary):
        table.add_row(Text(label), *(Text(with_range(cells.get(arm))) for arm in columns))
    written = io.StringIO()
    console = Console(file=written, width=TERMINAL_WIDTH)
    console.print(table)
    console.print(summary.headline, markup=False, highlight=False)
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


def _embed(folder: Path, file: str) -> dict[str, str | int]:
    """A PNG as a data URI with its size in pixels."""
    path = Path(folder) / file
    if not path.is_file():
        raise FileNotFoundError(f"the report's image {file} is not in {folder}; write it there or leave it out")
    content = path.read_bytes()
    width, height = Image.open(io.BytesIO(content)).size
    return {"uri": f"data:image/png;base64,{base64.b64encode(content).decode()}", "width": width, "height": height}

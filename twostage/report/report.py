"""The report of a sweep: report.json, charts, one self-contained HTML page, and a table for the terminal."""

# ruff: noqa: RUF001 (readers are shown the true signs: –)

import base64
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import jinja2
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eqvae.files import write_atomically
from twostage.analysis.summary import POSITION_KEYS, START, measured_arms, signed_percent, summarize
from twostage.report.figures import write_figures

__all__ = ["comparison_table", "summarize", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
TERMINAL_WIDTH = 110

METRICS = {
    "psnr": ("PSNR (dB)", "↑"),
    "ssim": ("SSIM", "↑"),
    "perceptual": ("Perceptual", "↓"),
    "lpips": ("LPIPS", "↓"),
    "rfid": ("rFID", "↓"),
    "rfd_efficientnet_lite0": ("rFD", "↓"),
    "intrinsic_dimension": ("Intrinsic dimension (TwoNN)", ""),
    "effective_rank": ("Effective rank", ""),
    "high_frequency_share": ("High-frequency share", ""),
    "fid": ("FID", "↓"),
    "fd_efficientnet_lite0": ("FD", "↓"),
    "sfid": ("sFID", "↓"),
    "sfd_efficientnet_lite0": ("sFD", "↓"),
    "is": ("Inception score", "↑"),
    "is_efficientnet_lite0": ("Inception score (EfficientNet-Lite0)", "↑"),
    "kid": ("KID", "↓"),
    "precision": ("Precision", "↑"),
    "recall": ("Recall", "↑"),
}
"""Short name and better direction of each metric; one that is not here is shown under its own name."""


def write_report(folder: Path, results: dict) -> Path:
    """Write report.json (results with their `summary`), figures/, report.html and report.md into `folder`.

    Every file is whole or absent. Pictures named in `results["pictures"]` must lie in `folder` as PNG.

    Returns:
        The path of report.html, one file that needs no other.

    Raises:
        ValueError: the results cannot be compared (see `summarize`).
        FileNotFoundError: a picture that the results name is not in `folder`.
    """
    folder = Path(folder)
    results = _finite(results)
    summary = summarize(results)
    figures = write_figures(folder, results, summary)
    page = render_page(folder, results, summary, figures)
    content = json.dumps(results | {"summary": summary}, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", content.encode())
    write_atomically(folder / "report.html", page.encode())
    write_atomically(folder / "report.md", render_markdown(results, summary).encode())
    return folder / "report.html"


def render_page(folder: Path, results: dict, summary: dict, figures: list[dict]) -> str:
    """The HTML page, pictures and style inside it, no script, nothing loaded from elsewhere."""
    return (
        _environment(autoescape=True)
        .get_template("report.html.jinja")
        .render(
            results=results,
            summary=summary,
            figures=figures,
            cards=key_numbers(results, summary),
            labels=_labels(results),
            samples=group_samples(results),
            position_keys=POSITION_KEYS,
            picture=lambda file: _embed(folder, file),
        )
    )


def render_markdown(results: dict, summary: dict) -> str:
    """The same findings as Markdown for a pull request: headline, tables, differences, commands; no pictures."""
    return _environment(autoescape=False).get_template("report.md.jinja").render(
        results=results,
        summary=summary,
        labels=_labels(results),
        rows=[(label, [_with_range(cells.get(arm)) for arm in _columns(results)]) for label, cells in
              _table_rows(results, summary)],
        columns=_columns(results),
    )  # fmt: skip


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
        "metric_names": metric_names,
        "metric": lambda name: METRICS.get(name, (name, "")),
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
    }
    return environment


def _labels(results: dict) -> dict[str, str]:
    return {arm["name"]: arm["label"] for arm in (START, *results["arms"])}


def _columns(results: dict) -> list[str]:
    """Arms of the comparison tables, the common start first where it was measured."""
    return [arm["name"] for arm in measured_arms(results) if arm == START] + [arm["name"] for arm in results["arms"]]


def key_numbers(results: dict, summary: dict) -> list[dict]:
    """The page's cards: speed-up and change per comparison, then what fine-tuning did to the autoencoder."""
    cards = []
    several = len(summary["comparisons"]) > 1
    for comparison in summary["comparisons"]:
        spread, label = comparison["speedup"], f"{comparison['arm_label']}, {comparison['generator_label']}"
        suffix = f" · {label}" if several else ""
        cards.append(
            {"title": f"Speed-up in steps{suffix}", "value": spread["text"], "detail": _kind(spread, comparison)}
        )
        if comparison["equal_steps"]:
            last = comparison["equal_steps"][-1]
            detail = f"{_kind(last, comparison)}: {signed_percent(last['low'])} to {signed_percent(last['high'])}"
            cards.append({
                "title": f"Change after {last['num_steps']:,} steps{suffix}",
                "value": signed_percent(last["mean"]),
                "detail": detail if last["num_seeds"] > 1 else "one seed",
            })  # fmt: skip
    for row in summary["autoencoders"]:
        if row["arm"] in (START["name"], results["control"]):
            continue
        cards += _autoencoder_cards(results, summary, row)
    return cards


def _kind(spread: dict, comparison: dict) -> str:
    num_seeds = len(comparison["per_seed"])
    if spread["kind"] == "confidence interval":
        return f"95% bootstrap interval over {num_seeds} seeds"
    return f"range over {num_seeds} seeds" if spread["kind"] == "range" else "one seed"


def _autoencoder_cards(results: dict, summary: dict, row: dict) -> list[dict]:
    """Equivariance error and reconstruction, control → arm, means over seeds."""
    cards = []
    control = next((r for r in summary["autoencoders"] if r["arm"] == results["control"]), {"metrics": {}})
    errors = summary["equivariance"]["latent"][-1]["arms"] if summary["equivariance"]["latent"] else {}
    pairs = {"Latent equivariance error": (errors.get(results["control"]), errors.get(row["arm"]))}
    for name in (f"r{results['metric']}", "psnr"):
        label, arrow = METRICS.get(name, (name, ""))
        pairs[f"Reconstruction, {label} {arrow}"] = control["metrics"].get(name), row["metrics"].get(name)
    for title, (before, after) in pairs.items():
        if before and after:
            value = f"{format_number(before['mean'])} → {format_number(after['mean'])}"
            cards.append({"title": title, "value": value, "detail": f"control → {row['label']}, mean over seeds"})
    return cards


def group_samples(results: dict) -> list[dict]:
    """Sample grids as {"generator", "seed", "steps": [{"num_steps", "files": {arm: file}}]}, in order."""
    groups: dict[tuple, dict[int, dict]] = {}
    for sample in results["pictures"].get("samples") or []:
        group = groups.setdefault((sample["generator"], sample["seed"]), {})
        group.setdefault(sample["num_steps"], {})[sample["arm"]] = sample["file"]
    labels = {generator["name"]: generator["label"] for generator in results["generators"]}
    return [
        {
            "generator": labels.get(generator, generator),
            "seed": seed,
            "steps": [{"num_steps": step, "files": files} for step, files in sorted(steps.items())],
        }
        for (generator, seed), steps in sorted(groups.items())
    ]


def comparison_table(results: dict) -> str:
    """Plain text for the terminal: metrics per arm, mean [lowest, highest] over seeds, and the headline."""
    summary = summarize(_finite(results))
    table = Table(title=Text(results["title"]), title_justify="left", title_style="bold")
    columns, labels = _columns(results), _labels(results)
    table.add_column(Text("mean [lowest, highest] over seeds"))
    for arm in columns:
        table.add_column(Text(labels[arm]), justify="right")
    for label, cells in _table_rows(results, summary):
        table.add_row(Text(label), *(Text(_with_range(cells.get(arm))) for arm in columns))
    console = Console(file=io.StringIO(), width=TERMINAL_WIDTH)
    console.print(table)
    console.print(summary["headline"], markup=False, highlight=False)
    return console.file.getvalue()


def _table_rows(results: dict, summary: dict) -> Iterator[tuple[str, dict]]:
    """(label, {arm: spread}) of the autoencoders' metrics, then of each generator's at the last shared step."""
    autoencoders = {row["arm"]: row["metrics"] for row in summary["autoencoders"]}
    for name in metric_names(autoencoders.values()):
        yield _name(name), {arm: metrics.get(name) for arm, metrics in autoencoders.items()}
    for space, rows in summary["equivariance"].items():
        if rows:
            yield f"Equivariance error, {space} ↓", rows[-1]["arms"]
    for generator in results["generators"]:
        rows = [row for row in summary["last_step"] if row["generator"] == generator["name"]]
        for name in metric_names(row["metrics"] for row in rows):
            label = f"{generator['label']}, {_name(name)} after {rows[0]['num_steps']:,} steps"
            yield label, {row["arm"]: row["metrics"].get(name) for row in rows}


def metric_names(rows: Iterable[dict]) -> list[str]:
    """Names in any of the rows, in the order of METRICS, then those it does not know."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    known = list(METRICS)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def _name(metric: str) -> str:
    return " ".join(METRICS.get(metric, (metric,))).strip()


def _with_range(spread: dict | None) -> str:
    if spread is None:
        return "–"
    if spread["num_seeds"] == 1:
        return format_number(spread["mean"])
    values = [v["value"] for v in spread["values"]]
    return f"{format_number(spread['mean'])} [{format_number(min(values))}, {format_number(max(values))}]"


def format_number(value: float | None) -> str:
    """Four significant digits, thousands separated, – for none: 1,599; 33.04; 0.0072; 5.2e-05."""
    if value is None:
        return "–"
    if value == 0 or isinstance(value, int):
        return f"{value:,}"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    decimals = max(0, 3 - max(-1, math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"


def format_duration(seconds: float | None) -> str:
    """3.2 s, 4 min 05 s, 2 h 10 min."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _embed(folder: Path, file: str) -> dict:
    """A PNG as a data URI with its size in pixels."""
    path = Path(folder) / file
    if not path.is_file():
        raise FileNotFoundError(f"the report's picture {file} is not in {folder}; write it there or leave it out")
    content = path.read_bytes()
    width, height = Image.open(io.BytesIO(content)).size
    return {"uri": f"data:image/png;base64,{base64.b64encode(content).decode()}", "width": width, "height": height}


def _finite(value: object) -> object:
    """The same data with null for numbers that JSON cannot hold (a diverged run's NaN)."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

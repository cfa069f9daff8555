"""The tables of a published sweep for its page: `python -m studies.sweep_table demo`. A test compares the two."""

import argparse
import textwrap
from collections.abc import Iterator

from twostage.analysis.comparison import Comparison
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import Spread, summarize
from twostage.analysis.words import ratio_text, sentence, signed_percent, verdict_text
from twostage.report.text import with_range
from twostage.verify import find_study, read_study

WIDTH = 120  # of a page's lines
AUTOENCODER = {"psnr": "PSNR (dB)", "ssim": "SSIM", "intrinsic_dimension": "TwoNN dimension"}
AT_THE_END = {"kid": "KID", "precision": "precision", "recall": "recall"}


def tables(results: SweepResults) -> str:
    """Measurements by arm, speed-ups by seed, and the verdict in words."""
    summary = summarize(results)
    arms = [arm.name for arm in results.arms]
    header = ["mean (lowest to highest seed)", *(arm.label for arm in results.arms)]
    rows = [[label, *(with_range(cells.get(arm)) for arm in arms)] for label, cells in _measured(results)]
    parts = [table(header, rows)]
    for comparison in summary.comparisons:
        parts.append(table(["seed", "speed-up in steps", "change at the last step"], list(_by_seed(comparison))))
        parts.append(textwrap.fill(f"**{sentence(comparison, results.metric_label)}**", WIDTH))
    return "\n\n".join(parts)


def _measured(results: SweepResults) -> Iterator[tuple[str, dict[str, Spread]]]:
    summary = summarize(results)
    own = {row.arm: row.metrics for row in summary.autoencoders}
    for name, label in (AUTOENCODER | {f"r{results.metric}": "rFD"}).items():
        yield label, {arm: metrics[name] for arm, metrics in own.items() if name in metrics}
    for row in summary.equivariance["latent"]:
        yield f"latent error, {row.transform}", row.arms
    for generator in results.generators:
        for step in sorted({point.num_steps for curve in results.curves for point in curve.points}):
            yield f"{generator.label}: FD after {step:,} steps", _at(results, generator.name, step, results.metric)
        last = max(point.num_steps for curve in results.curves for point in curve.points)
        for name, label in AT_THE_END.items():
            yield f"{generator.label}: {label} after {last:,} steps", _at(results, generator.name, last, name)


def _at(results: SweepResults, generator: str, step: int, metric: str) -> dict[str, Spread]:
    """{arm: spread over seeds} of a metric of a generator after a step."""
    values: dict[str, dict[int | None, float]] = {}
    for curve in results.curves:
        for point in curve.points:
            value = point.metrics.get(metric)
            if curve.generator == generator and point.num_steps == step and value is not None:
                values.setdefault(curve.arm, {})[curve.seed] = value
    return {arm: Spread.of(by_seed) for arm, by_seed in values.items()}


def _by_seed(comparison: Comparison) -> Iterator[list[str]]:
    changes = comparison.equal_steps[-1].changes
    for each in comparison.per_seed:
        yield [str(each.seed), ratio_text(each.speed_up), signed_percent(changes[each.seed])]
    change = comparison.verdict.change
    yield ["all", verdict_text(comparison.verdict), "" if change is None else signed_percent(change.mean)]


def table(header: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="as of verify.py")
    print(tables(read_study(find_study(parser.parse_args().study))))

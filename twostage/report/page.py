"""The HTML page of a report: one file that loads nothing, and is whole without its script."""

# ruff: noqa: RUF001 (readers are shown the true signs: ×)

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eqvae.evaluation.metrics import find_metric
from twostage.analysis.agreement import Agreement
from twostage.analysis.comparison import INCLUDING, Comparison
from twostage.analysis.draws import seed_values
from twostage.analysis.intervals import quantile
from twostage.analysis.leaderboard import COST, EQUIVARIANCE, SPEED_UP
from twostage.analysis.racing import stop_sentence
from twostage.analysis.records import START, SweepResults
from twostage.analysis.summary import Summary
from twostage.analysis.words import agreement_values, factor, interval_text, seeds_text, strongest, verdict_text
from twostage.report.figures import STYLE, Figures
from twostage.report.svg import arm_classes, arm_marks
from twostage.report.templating import embed, environment, script_with_policy


@dataclass(frozen=True)
class Badge:
    """The answer at the top of the page.

    Args:
        word: "faster", "slower", "undecided"; of fresh seeds beside a study "agrees", "disagrees", "no answer".
        size: how much, such as 1.39×; "" where nothing is known.
        detail: interval and seeds.
        about: arm and generator.
    """

    word: str
    size: str
    detail: str
    about: str


@dataclass(frozen=True)
class SampleGroup:
    """Sample grids of a generator and seed: {step: {arm: file}}."""

    generator: str
    seed: int
    steps: dict[int, dict[str, str]]


def render_page(folder: Path, results: SweepResults, summary: Summary, figures: Figures) -> str:
    """The HTML page, images, style and script inside it.

    Args:
        folder: that the images of the results lie in.

    Raises:
        FileNotFoundError: naming an image that is not there.
    """
    script, policy = script_with_policy()
    return (
        environment(autoescape=True)
        .get_template("report.html.jinja")
        .render(
            results=results,
            summary=summary,
            best=strongest(summary.comparisons),
            figures=figures,
            badge=badge(summary),
            columns=leaderboard_columns(summary),
            labels=arm_labels(results),
            untreated={each.arm for each in summary.treatments if each.failures},
            classes=arm_classes(results),
            marks=arm_marks(results),
            samples=group_samples(results),
            seeds=seeds_data(summary),
            sizes=list(dict.fromkeys(each.num_seeds for each in summary.draws)),
            including=INCLUDING,
            policy=policy,
            script=Markup(script),
            chart_style=Markup(STYLE.read_text()),
            embed=lambda file: embed(folder, file),
            markup=Markup,
            stopped=lambda each: stop_sentence(results, each),
        )
    )


def badge(summary: Summary) -> Badge:
    """Of the strongest comparison; of fresh seeds whether they agree with the study."""
    if summary.agreements:
        return _agreement_badge(summary.agreements[0])
    best = strongest(summary.comparisons)
    verdict = best.verdict
    sure = interval_text(verdict) if verdict.low is not None else "no interval"
    bound = {"at least": "≥ ", "at most": "≤ "}
    known = verdict.ratio is not None
    if verdict.word == "slower":  # told by the inverse, whose bounds are turned round
        bound = {"at least": "≤ ", "at most": "≥ "}
    size = f"{bound.get(verdict.kind, '')}{factor(verdict)}×" if known else ""
    return Badge(verdict.word, size, f"{sure} · {seeds_text(verdict.num_seeds)}", _about(best))


def _about(each: Comparison | Agreement) -> str:
    return f"{each.generator_label} on {each.arm_label}"


def _agreement_badge(agreement: Agreement) -> Badge:
    word = {True: "agrees", False: "disagrees", None: "no answer"}[agreement.agrees]
    verdict = agreement.verdict
    published = f"published: {verdict.word}, {verdict_text(verdict)}, {seeds_text(verdict.num_seeds)}"
    return Badge(word, ", ".join(agreement_values(agreement)), published, _about(agreement))


def leaderboard_columns(summary: Summary) -> dict[str, str]:
    """{name: heading} of the columns that some row has."""
    known = {SPEED_UP: "Speed-up in steps ↑", COST: "Device time ↓", EQUIVARIANCE: "Equivariance error ↓"}
    names = dict.fromkeys(name for row in summary.leaderboard for name in row.columns)
    return {name: known.get(name) or find_metric(name).heading for name in names}


def arm_labels(results: SweepResults) -> dict[str, str]:
    return {START: "Common start"} | {arm.name: arm.label for arm in results.arms}


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


def seeds_data(summary: Summary) -> list[dict[str, Any]]:
    """What the page's script draws seeds from: for each comparison the values of `SeedValues`, and t quantiles by size.

    The strongest comparison comes first.
    """
    found = []
    best = strongest(summary.comparisons)
    for comparison in sorted(summary.comparisons, key=lambda each: each is not best):
        values = seed_values(comparison)
        if values is None or len(values.changes) < 2:
            continue
        numbers = asdict(values)
        sizes = range(2, len(values.changes) + 1)
        found.append(
            {
                "label": f"{comparison.arm_label}, {comparison.generator_label}",
                "seeds": list(values.changes),
                "speed_ups": list(numbers["speed_ups"].values()),
                "changes": list(numbers["changes"].values()),
                "quantiles": {size: quantile(1 - values.level / 2, size) for size in sizes},
            }
        )
    return found

"""What a sweep's results say: the comparisons, means over seeds, and the headline; the second half of report.json."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from twostage.analysis.agreement import Agreement, agreements
from twostage.analysis.comparison import Comparison, NotCompared, compare, is_number, why_not_compared
from twostage.analysis.draws import SeedDraws, draws
from twostage.analysis.intervals import holm, level_of_look
from twostage.analysis.leaderboard import LeaderboardRow, leaderboard
from twostage.analysis.racing import stop_note
from twostage.analysis.records import GeneratorEntry, SweepResults
from twostage.analysis.treatment import Treatment, treatments
from twostage.analysis.words import agreement_headline, headline

MEAN_OF_TRANSFORMS = "mean of transforms"


@dataclass(frozen=True)
class Spread:
    """A quantity over seeds: mean, lowest and highest, and the value of each seed (None: of the common start)."""

    mean: float
    low: float
    high: float
    values: dict[int | None, float]

    @classmethod
    def of(cls, values: Mapping[int | None, float]) -> "Spread":
        numbers = list(values.values())
        return cls(sum(numbers) / len(numbers), min(numbers), max(numbers), dict(values))


@dataclass(frozen=True)
class MeasuredRow:
    """Every metric of an arm's autoencoder, or of a generator on its latents after `num_steps`."""

    arm: str
    label: str
    metrics: dict[str, Spread]
    generator: str | None = None
    num_steps: int | None = None


@dataclass(frozen=True)
class ErrorRow:
    """Equivariance error of one transform, by arm."""

    transform: str
    arms: dict[str, Spread]


@dataclass(frozen=True)
class JointClaim:
    """Whether a comparison's verdict also stands if all of the sweep's are claimed together (Holm)."""

    arm: str
    generator: str
    adjusted_p: float
    stands: bool


@dataclass(frozen=True)
class Summary:
    """What the results say.

    Args:
        headline: in words.
        comparisons: one per generator and arm that is not the control.
        joint: where there are several comparisons.
        last_step: generators at the last step that all curves share.
        autoencoders: arms' autoencoders.
        equivariance: errors by space, the mean over transforms last.
        notes: arms that were stopped, points that were left out.
        agreements: of the seeds with an earlier study, one per comparison, where they check one.
        leaderboard: every arm with every generator, the fastest first.
        draws: what fewer of these seeds would have said.
        treatments: was it given? Of each arm that is meant to be equivariant.
        not_compared: arms that have no comparison, by generator.
    """

    headline: str
    comparisons: list[Comparison]
    joint: list[JointClaim]
    last_step: list[MeasuredRow]
    autoencoders: list[MeasuredRow]
    equivariance: dict[str, list[ErrorRow]]
    notes: list[str]
    agreements: list[Agreement] = field(default_factory=list)
    leaderboard: list[LeaderboardRow] = field(default_factory=list)
    draws: list[SeedDraws] = field(default_factory=list)
    treatments: list[Treatment] = field(default_factory=list)
    not_compared: list[NotCompared] = field(default_factory=list)


def summarize(results: SweepResults) -> Summary:
    """All comparisons and tables of a sweep.

    Raises:
        ValueError: if no seed has both the control and another arm.
    """
    level = level_of_look(results.max_seeds)
    pairs = [(arm, generator) for generator in results.generators for arm in results.treated_arms]
    found = [compare(results, *pair, level) for pair in pairs]
    comparisons = [each for each in found if each is not None]
    lost = [why_not_compared(results, *pair) for pair, each in zip(pairs, found, strict=True) if each is None]
    if not comparisons:
        raise ValueError(
            f"results: no seed has a learning curve of {results.control!r} and of another arm; nothing to compare"
        )
    agreeing = agreements(results, comparisons)
    notes = [*(stop_note(results, each) for each in results.stopped), *_left_out(results)]
    told = headline(comparisons, results.metric_label, len(results.stopped), lost)
    return Summary(
        headline=agreement_headline(agreeing, lost) if agreeing else told,
        comparisons=comparisons,
        joint=_joint(comparisons),
        last_step=[row for generator in results.generators for row in _last_step(results, generator)],
        autoencoders=[
            MeasuredRow(arm.name, arm.label, _spreads(_autoencoder_metrics(results, arm.name)))
            for arm in results.measured_arms
        ],
        equivariance={space: _equivariance(results, space) for space in ("latent", "decoded")},
        notes=notes,
        agreements=agreeing,
        leaderboard=leaderboard(results, comparisons),
        draws=[each for comparison in comparisons for each in draws(comparison)],
        treatments=treatments(results.autoencoders, results.arms, results.control),
        not_compared=lost,
    )


def is_open(results: SweepResults) -> bool:
    """Whether further seeds have something to decide."""
    return bool(open_comparisons(results))


def open_comparisons(results: SweepResults) -> list[Comparison]:
    """Those that are undecided, of arms that were not stopped; one that has lost a seed stays so for good."""
    running = {arm.name for arm in results.racing_arms}
    undecided = [each for each in summarize(results).comparisons if each.verdict.word == "undecided"]
    return [each for each in undecided if each.arm in running and not each.verdict.missing_seeds]


def _joint(comparisons: list[Comparison]) -> list[JointClaim]:
    found = [(each, each.verdict.p) for each in comparisons if each.verdict.p is not None]
    if len(found) < 2:
        return []
    decidable, ps = zip(*found, strict=True)
    adjusted = holm(ps)
    return [
        JointClaim(each.arm, each.generator, p, each.verdict.word != "undecided" and p <= each.verdict.level)
        for each, p in zip(decidable, adjusted, strict=True)
    ]


def _last_step(results: SweepResults, generator: GeneratorEntry) -> list[MeasuredRow]:
    """Every metric of each arm at the last step that all curves of a generator share."""
    curves = [curve for curve in results.curves if curve.generator == generator.name and curve.points]
    shared = set.intersection(*({point.num_steps for point in curve.points} for curve in curves)) if curves else set()
    if not shared:
        return []
    rows = []
    for arm in results.arms:
        measured: dict[int | None, dict[str, float | None]] = {
            curve.seed: point.metrics
            for curve in curves
            for point in curve.points
            if curve.arm == arm.name and point.num_steps == max(shared)
        }
        rows.append(MeasuredRow(arm.name, arm.label, _spreads(measured), generator.name, max(shared)))
    return rows


def _autoencoder_metrics(results: SweepResults, arm: str) -> dict[int | None, dict[str, float | None]]:
    return {each.seed: each.metrics for each in results.autoencoders if each.arm == arm}


def _spreads(measured: Mapping[int | None, Mapping[str, float | None]]) -> dict[str, Spread]:
    """Of each metric over seeds; metrics that no seed has are absent."""
    names = dict.fromkeys(name for metrics in measured.values() for name in metrics)
    found: dict[str, dict[int | None, float]] = {
        name: {seed: value for seed, metrics in measured.items() if is_number(value := metrics.get(name))}
        for name in names
    }
    return {name: Spread.of(values) for name, values in found.items() if values}


def _equivariance(results: SweepResults, space: str) -> list[ErrorRow]:
    """Errors by transform, then their mean over those that all autoencoders have."""
    rows: dict[str, dict[str, dict[int | None, float]]] = {}
    shared = results.shared_probes(space)
    for each in results.autoencoders:
        errors = {name: value for name, value in each.equivariance.get(space, {}).items() if is_number(value)}
        mean = each.mean_error(space, shared)
        means = {} if mean is None else {MEAN_OF_TRANSFORMS: mean}
        for transform, error in (errors | means).items():
            rows.setdefault(transform, {}).setdefault(each.arm, {})[each.seed] = error
    order = sorted(rows, key=MEAN_OF_TRANSFORMS.__eq__)
    return [ErrorRow(name, {arm: Spread.of(values) for arm, values in rows[name].items()}) for name in order]


def _left_out(results: SweepResults) -> Iterable[str]:
    for curve in results.curves:
        missing = [p.num_steps for p in curve.points if not is_number(p.metrics.get(results.metric))]
        if missing:
            steps = ", ".join(f"{step:,}" for step in missing)
            yield (
                f"{curve.arm}, {curve.generator}, seed {curve.seed}: no finite {results.metric_label} at step {steps}; "
                "left out of every comparison."
            )

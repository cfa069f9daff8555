"""Arms x generators in one table: speed-up, metric, reconstruction, equivariance and cost, each with its rank."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from eqvae.evaluation.metrics import find_metric
from twostage.analysis.comparison import Comparison, is_number
from twostage.analysis.ranking import Ends, Standing, ends_of_verdict, ends_over_seeds, standings
from twostage.analysis.records import Arm, AutoencoderMeasurement, Curve, GeneratorEntry, SweepResults
from twostage.analysis.verdict import Verdict

SPEED_UP, COST, EQUIVARIANCE = "speed_up", "device_seconds", "equivariance/latent"

Values = Mapping[str, Mapping[int | None, float | None]]
"""Of a quantity, by arm and seed, with None where a seed that should have it has not."""


@dataclass(frozen=True)
class LeaderboardRow:
    """An arm with a generator.

    Args:
        arm, arm_label, generator, generator_label: which.
        is_control: the arm that the others are compared with; its speed-up is 1.
        verdict: on the arm; None of the control, and of an arm without a number beside it.
        num_steps: of the generator's metric, the last step that all curves share; None where they share none.
        columns: by name: `speed_up`; the metric after `num_steps`; `psnr`, the reconstructions' distance and
            `equivariance/latent` of the autoencoder; `device_seconds` of fine-tuning and training together. Ranks are
            those among the arms of one generator; a value that some seed lacks has none, since no seed may be dropped.
        fine_tuning_seconds: part of the cost, mean over seeds; None where it is not known.
        num_seeds: with a value of the metric after `num_steps`.
        missing_seeds: without one.
        stopped: a race took the arm out after these seeds.
        beaten_by: the arm that was faster there, whose rank is better; None where none was.
    """

    arm: str
    arm_label: str
    generator: str
    generator_label: str
    is_control: bool
    verdict: Verdict | None
    num_steps: int | None
    columns: dict[str, Standing]
    fine_tuning_seconds: float | None = None
    num_seeds: int = 0
    missing_seeds: list[int] = field(default_factory=list)
    stopped: bool = False
    beaten_by: str | None = None


def leaderboard(results: SweepResults, comparisons: Iterable[Comparison]) -> list[LeaderboardRow]:
    """All arms and generators; of each generator by rank and speed-up, those without a speed-up last."""
    verdicts = {(each.arm, each.generator): each.verdict for each in comparisons}
    return [row for generator in results.generators for row in _rows(results, generator, verdicts)]


def higher_is_better(column: str) -> bool:
    return column == SPEED_UP or find_metric(column).direction == "higher"


def _rows(
    results: SweepResults, generator: GeneratorEntry, verdicts: Mapping[tuple[str, str], Verdict]
) -> list[LeaderboardRow]:
    arms = results.arms if any(_curves(results, arm, generator) for arm in results.arms) else []
    own = {arm.name: verdicts.get((arm.name, generator.name)) for arm in arms}
    num_steps = _last_shared_step(results, generator)
    fine_tuning = {arm.name: _fine_tuning(results, arm) for arm in arms}
    beaten = _beaten(results, generator)
    columns = {SPEED_UP: _speed_ups(arms, own, results.control, beaten)}
    stopped = {each.arm for each in results.stopped}
    measured = _measured(results, generator, num_steps)
    columns |= {name: _ranked(name, arms, values) for name, values in measured.items()}
    at_last = _at_step(results, generator, num_steps)
    missing = {arm.name: _lacking(at_last[arm.name]) if num_steps is not None else [] for arm in arms}
    rows = [
        LeaderboardRow(
            arm=arm.name,
            arm_label=arm.label,
            generator=generator.name,
            generator_label=generator.label,
            is_control=arm.name == results.control,
            verdict=own[arm.name],
            num_steps=num_steps,
            columns={name: column[place] for name, column in columns.items()},
            fine_tuning_seconds=_mean(fine_tuning[arm.name].values()),
            num_seeds=len(results.seeds_of(arm.name)) - len(missing[arm.name]),
            missing_seeds=missing[arm.name],
            stopped=arm.name in stopped,
            beaten_by=beaten.get(arm.name),
        )
        for place, arm in enumerate(arms)
    ]
    return sorted(rows, key=_order)


def _order(row: LeaderboardRow) -> tuple[float, float]:
    """By rank, then by speed-up; those without one last."""
    speed_up = row.columns[SPEED_UP]
    return math.inf if speed_up.rank is None else speed_up.rank, -(speed_up.value or 0)


def _curves(results: SweepResults, arm: Arm, generator: GeneratorEntry) -> list[Curve]:
    return [each for each in results.curves if (each.arm, each.generator) == (arm.name, generator.name)]


def _last_shared_step(results: SweepResults, generator: GeneratorEntry) -> int | None:
    curves = [{p.num_steps for p in each.points} for each in results.curves if each.generator == generator.name]
    shared = set.intersection(*curves) if curves else set()
    return max(shared, default=None)


def _beaten(results: SweepResults, generator: GeneratorEntry) -> dict[str, str]:
    """{arm that was stopped: the arm that was faster}."""
    return {
        each.arm: defeat.rival
        for each in results.stopped
        for defeat in each.defeats
        if defeat.generator == generator.name and defeat.smallest_speed_up is None
    }


def _speed_ups(
    arms: Sequence[Arm], own: Mapping[str, Verdict | None], control: str, beaten: Mapping[str, str]
) -> list[Standing]:
    values: list[float | None] = []
    intervals: list[Ends | None] = []
    for arm in arms:
        verdict = own[arm.name]
        if verdict is None:
            values.append(1.0 if arm.name == control else None)
            intervals.append((1.0, 1.0) if arm.name == control else None)
            continue
        values.append(verdict.ratio)
        intervals.append(ends_of_verdict(verdict))
    places = {arm.name: place for place, arm in enumerate(arms)}
    above = {places[arm]: places[rival] for arm, rival in beaten.items()}
    return standings(values, intervals, higher_is_better=True, above=above)


def _ranked(name: str, arms: Sequence[Arm], values: Values) -> list[Standing]:
    numbers = [list(filter(is_number, values.get(arm.name, {}).values())) for arm in arms]
    intervals = [
        None if _lacking(values.get(arm.name, {})) else ends_over_seeds(own)
        for arm, own in zip(arms, numbers, strict=True)
    ]
    return standings([_mean(each) for each in numbers], intervals, higher_is_better(name))


def _lacking(values: Mapping[int | None, float | None]) -> list[int]:
    return [seed for seed, value in values.items() if value is None and seed is not None]


def _measured(results: SweepResults, generator: GeneratorEntry, num_steps: int | None) -> dict[str, Values]:
    """Every column but the speed-up that some arm has."""
    found = {results.metric: _at_step(results, generator, num_steps)}
    for name in ("psnr", f"r{results.metric}"):
        found[name] = _by_arm(results, lambda each, name=name: each.metrics.get(name))
    probes = results.shared_probes("latent")
    found[EQUIVARIANCE] = _by_arm(results, lambda each: each.mean_error("latent", probes))
    found[COST] = _costs(results, generator)
    return {
        name: values
        for name, values in found.items()
        if any(is_number(value) for own in values.values() for value in own.values())
    }


def _by_arm(results: SweepResults, value: Callable[[AutoencoderMeasurement], float | None]) -> Values:
    found: dict[str, dict[int | None, float | None]] = {}
    for each in results.autoencoders:
        number = value(each)
        found.setdefault(each.arm, {})[each.seed] = number if is_number(number) else None
    return found


def _at_step(results: SweepResults, generator: GeneratorEntry, num_steps: int | None) -> Values:
    """Of every seed that the arm should have."""
    found: dict[str, dict[int | None, float | None]] = {
        arm.name: dict.fromkeys(results.seeds_of(arm.name)) for arm in results.arms
    }
    for curve in results.curves:
        for point in curve.points if curve.generator == generator.name else ():
            if point.num_steps == num_steps and is_number(value := point.metrics.get(results.metric)):
                found[curve.arm][curve.seed] = value
    return found


def _costs(results: SweepResults, generator: GeneratorEntry) -> Values:
    """Device time of the whole training of a generator, with the arm's fine-tuning; without any where none is known.

    An arm whose fine-tuning is not known, as of a ready autoencoder, has no value beside arms whose is.
    """
    charged = {arm.name: _fine_tuning(results, arm) for arm in results.arms}
    charges, found = any(charged.values()), {}
    for arm in results.arms:
        own: dict[int | None, float | None] = dict.fromkeys(results.seeds_of(arm.name))
        for curve in _curves(results, arm, generator):
            spent = curve.points[-1].device_seconds if curve.points else None
            cost = charged[arm.name].get(curve.seed) if charges else 0.0
            own[curve.seed] = spent + cost if is_number(spent) and cost is not None else None
        found[arm.name] = own
    return found


def _fine_tuning(results: SweepResults, arm: Arm) -> dict[int | None, float]:
    """Device time from the common start on, by seed: none of an arm that is the start itself."""
    sweep = results.sweep or {}
    ready = sweep.get("autoencoders", {}).get(arm.name, {}).get("autoencoder")
    if ready is not None and ready == (sweep.get("start") or {}).get("autoencoder"):
        return dict.fromkeys(results.seeds_of(arm.name), 0.0)
    return {
        each.seed: each.device_seconds
        for each in results.autoencoders
        if each.arm == arm.name and is_number(each.device_seconds)
    }


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None

"""Arms x generators in one table: speed-up, metric, reconstruction, equivariance and cost, each with its rank."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from eqvae.evaluation.metrics import find_metric
from twostage.analysis.comparison import Comparison, is_number
from twostage.analysis.ranking import Ends, Standing, ends_of_verdict, ends_over_seeds, standings
from twostage.analysis.records import Arm, AutoencoderMeasurement, Curve, GeneratorEntry, SweepResults
from twostage.analysis.verdict import Verdict

SPEED_UP, COST, EQUIVARIANCE = "speed_up", "device_seconds", "equivariance/latent"

Values = Mapping[str, Sequence[float]]
"""Of a quantity, by arm, one for each seed."""


@dataclass(frozen=True)
class LeaderboardRow:
    """An arm with a generator.

    Args:
        arm, arm_label, generator, generator_label: which.
        is_control: the arm that the others are compared with; its speed-up is 1.
        verdict: on the arm; None of the control, and of an arm without a curve.
        num_steps: of the generator's metric, the last step that all curves share; None where they share none.
        columns: by name: `speed_up`; the metric after `num_steps`; `psnr`, the reconstructions' distance and
            `equivariance/latent` of the autoencoder; `device_seconds` of fine-tuning and training together. Ranks are
            those among the arms of one generator.
        fine_tuning_seconds: part of the cost, mean over seeds; None where it is not known.
        num_seeds: that the row rests on.
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
    arms = [arm for arm in results.arms if _curves(results, arm, generator)]
    own = {arm.name: verdicts.get((arm.name, generator.name)) for arm in arms}
    num_steps = _last_shared_step(results, generator)
    fine_tuning = {arm.name: _fine_tuning(results, arm) for arm in arms}
    beaten = _beaten(results, generator)
    columns = {SPEED_UP: _speed_ups(arms, own, results.control, beaten)}
    stopped = {each.arm for each in results.stopped}
    columns |= {name: _ranked(name, arms, values) for name, values in _measured(results, generator, num_steps).items()}
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
            num_seeds=len(results.seeds_of(arm.name)),
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
    numbers = [list(values.get(arm.name, ())) for arm in arms]
    return standings([_mean(each) for each in numbers], list(map(ends_over_seeds, numbers)), higher_is_better(name))


def _measured(results: SweepResults, generator: GeneratorEntry, num_steps: int | None) -> dict[str, Values]:
    """Every column but the speed-up that some arm has."""
    found = {results.metric: _at_step(results, generator, num_steps)}
    for name in ("psnr", f"r{results.metric}"):
        found[name] = _by_arm(results, lambda each, name=name: each.metrics.get(name))
    found[EQUIVARIANCE] = _by_arm(
        results, lambda each: _mean(filter(is_number, each.equivariance.get("latent", {}).values()))
    )
    found[COST] = _costs(results, generator)
    return {name: values for name, values in found.items() if any(values.values())}


def _by_arm(results: SweepResults, value: Callable[[AutoencoderMeasurement], float | None]) -> Values:
    found: dict[str, list[float]] = {}
    for each in results.autoencoders:
        if is_number(number := value(each)):
            found.setdefault(each.arm, []).append(number)
    return found


def _at_step(results: SweepResults, generator: GeneratorEntry, num_steps: int | None) -> Values:
    found: dict[str, list[float]] = {}
    for curve in results.curves:
        for point in curve.points if curve.generator == generator.name else ():
            if point.num_steps == num_steps and is_number(value := point.metrics.get(results.metric)):
                found.setdefault(curve.arm, []).append(value)
    return found


def _costs(results: SweepResults, generator: GeneratorEntry) -> Values:
    """Device time of the whole training of a generator, with the arm's fine-tuning where that is known."""
    found: dict[str, list[float]] = {}
    for arm in results.arms:
        charged = _fine_tuning(results, arm)
        for curve in _curves(results, arm, generator):
            spent = curve.points[-1].device_seconds if curve.points else None
            if is_number(spent):
                found.setdefault(arm.name, []).append(spent + charged.get(curve.seed, 0.0))
    return found


def _fine_tuning(results: SweepResults, arm: Arm) -> dict[int | None, float]:
    return {
        each.seed: each.device_seconds
        for each in results.autoencoders
        if each.arm == arm.name and is_number(each.device_seconds)
    }


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None

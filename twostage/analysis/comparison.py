"""One arm against the control for one generator: the verdict, and the same in every unit, level and step."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np

from eqvae.evaluation.metric import EXTRACTORS
from twostage.analysis.curves import LearningCurve, end_slope
from twostage.analysis.intervals import ERROR_RATE, Interval, interval_over_seeds
from twostage.analysis.pairs import SpeedUp, changes_at_equal_steps, last_common_level, speed_up
from twostage.analysis.records import Arm, GeneratorEntry, Point, SweepResults
from twostage.analysis.verdict import Verdict, verdict_over_seeds

DISTANCES = [names.distance for names in EXTRACTORS.values()]

AXES: dict[str, tuple[str, Callable[[Point], float | None]]] = {
    "num_steps": ("training steps", lambda point: point.num_steps),
    "images_seen": ("images seen", lambda point: point.images_seen),
    "seconds": ("wall time of the generator's training", lambda point: point.seconds),
    "device_seconds": ("device time of the generator's training", lambda point: point.device_seconds),
}
"""What a speed-up can be counted in: label, and where a point has it."""

INCLUDING = "device time, the arm's fine-tuning included"
SAMPLE_SHARE = 0.95  # of an interval over resampled images

Pair = tuple[LearningCurve, LearningCurve]
"""Curves of the control and of the treated arm in one seed."""


@dataclass(frozen=True)
class SeedSpeedUp:
    """The speed-up of one seed; None where the treated arm never reached the level."""

    seed: int
    speed_up: SpeedUp | None


@dataclass(frozen=True)
class AxisRow:
    """The speed-up at the last common level, counted in one unit."""

    label: str
    per_seed: list[SeedSpeedUp]
    verdict: Verdict


@dataclass(frozen=True)
class LevelRow:
    """The speed-up to what the control had reached after `num_steps`."""

    num_steps: int
    per_seed: list[SeedSpeedUp]


@dataclass(frozen=True)
class EqualSteps:
    """The log change of the metric (the difference, where it may be negative) after equally many steps."""

    num_steps: int
    changes: dict[int, float]
    interval: Interval


@dataclass(frozen=True)
class SampleInterval:
    """Percentiles of one seed's speed-up over resampled images; they know nothing of another training."""

    low: float
    high: float
    num_resamples: int


@dataclass(frozen=True)
class Comparison:
    """An arm against the control, for one generator.

    Args:
        arm, arm_label, generator, generator_label: which.
        verdict: over all seeds, in training steps.
        per_seed: speed-up at the last common level.
        axes: the same in other units.
        levels: at what the control had reached along the way.
        equal_steps: changes along the way.
        in_logs: changes are of log values; false where a value may be negative, and straight lines are taken.
        coarse: some crossing lies between points more than a factor of 1.5 apart.
        slope: of the control at its end, mean over seeds.
        over_samples: where there is one seed with resampled images.
    """

    arm: str
    arm_label: str
    generator: str
    generator_label: str
    verdict: Verdict
    per_seed: list[SeedSpeedUp]
    axes: list[AxisRow] = field(default_factory=list)
    levels: list[LevelRow] = field(default_factory=list)
    equal_steps: list[EqualSteps] = field(default_factory=list)
    in_logs: bool = True
    coarse: bool = False
    slope: float | None = None
    over_samples: SampleInterval | None = None


@dataclass(frozen=True)
class NotCompared:
    """An arm without a number beside the control's, for one generator, and why."""

    arm: str
    arm_label: str
    generator: str
    generator_label: str
    reason: str


def why_not_compared(results: SweepResults, arm: Arm, generator: GeneratorEntry) -> NotCompared:
    """Of an arm that `compare` has no comparison of."""
    own, control = (curves_by_seed(results, name, generator.name) for name in (arm.name, results.control))
    if not own:
        reason = f"none of its seeds has a finite {results.metric_label}"
    elif not control:
        reason = f"no seed of the control has a finite {results.metric_label}"
    else:
        reason = "it shares no seed with the control"
    return NotCompared(arm.name, arm.label, generator.name, generator.label, reason)


def compare(
    results: SweepResults,
    arm: Arm,
    generator: GeneratorEntry,
    level: float = ERROR_RATE,
    in_logs: bool | None = None,
) -> Comparison | None:
    """One arm against the control; pairs share the seed. None where no seed has both curves.

    A seed with a curve that ends early stands among the pairs, but in no number over seeds.

    Args:
        level: two-sided error rate of each interval.
        in_logs: see `Comparison`; None: wherever all values are above 0.
    """
    pairs = _pairs(results, arm.name, generator.name, "num_steps")
    if not pairs:
        return None
    in_logs = _in_logs(pairs) if in_logs is None else in_logs
    missing = _missing_seeds(results, arm.name, generator.name)
    speed_ups = {seed: speed_up(*pair, in_logs=in_logs) for seed, pair in pairs.items()}
    changes = {
        seed: changes_at_equal_steps(*pair, in_logs=in_logs) for seed, pair in pairs.items() if seed not in missing
    }
    slopes = [slope for slope in (end_slope(control) for control, _ in pairs.values()) if slope is not None]
    return Comparison(
        arm=arm.name,
        arm_label=arm.label,
        generator=generator.name,
        generator_label=generator.label,
        verdict=verdict_over_seeds(speed_ups, _last(changes), missing, level),
        per_seed=[SeedSpeedUp(seed, each) for seed, each in speed_ups.items()],
        axes=_axes(results, arm.name, generator.name, list(pairs), missing, level, in_logs),
        levels=_levels(pairs, in_logs),
        equal_steps=[
            EqualSteps(int(step), values, interval_over_seeds(list(values.values()), level))
            for step, values in _by_step(changes).items()
        ],
        in_logs=in_logs,
        coarse=any(each.coarse for each in speed_ups.values()),
        slope=float(np.mean(slopes)) if slopes else None,
        over_samples=_over_samples(results, arm.name, generator.name) if len(pairs) == 1 and in_logs else None,
    )


def verdict_between(results: SweepResults, arm: str, rival: str, generator: str, level: float) -> Verdict | None:
    """An arm against any other one in the place of the control. None where no seed has both at some step.

    Args:
        level: two-sided error rate of each interval.
    """
    against = replace(results, control=rival)
    pairs = _pairs(against, arm, generator, "num_steps")
    if not pairs:
        return None
    in_logs = _in_logs(pairs)
    speed_ups = {seed: speed_up(*pair, in_logs=in_logs) for seed, pair in pairs.items()}
    changes = {seed: changes_at_equal_steps(*pair, in_logs=in_logs) for seed, pair in pairs.items()}
    last = _last(changes)
    return verdict_over_seeds(speed_ups, last, _missing_seeds(against, arm, generator), level) if last else None


def _last(changes: dict[int, dict[float, float]]) -> dict[int, float]:
    """{seed: change at its last step}, of those that have a step in common."""
    return {seed: change[max(change)] for seed, change in changes.items() if change}


def _in_logs(pairs: dict[int, Pair]) -> bool:
    return all(min(curve.values) > 0 for pair in pairs.values() for curve in pair)


def curves_by_seed(
    results: SweepResults, arm: str, generator: str, axis: str = "num_steps"
) -> dict[int, LearningCurve]:
    """Curves of the sweep's metric, without points that have no finite value; those that lack the axis are left out."""
    place, found = AXES[axis][1], {}
    for curve in results.curves:
        if (curve.arm, curve.generator) != (arm, generator):
            continue
        points = [point for point in curve.points if is_number(point.metrics.get(results.metric))]
        if points and all(is_number(place(point)) for point in points):
            steps, values = zip(*((place(point), point.metrics[results.metric]) for point in points), strict=True)
            found[curve.seed] = LearningCurve(steps, values)
    return dict(sorted(found.items()))


def last_step_of(results: SweepResults, generator: str) -> int:
    """The last step at which a generator was evaluated in any arm and seed; 0 where it never was."""
    own = (curve for curve in results.curves if curve.generator == generator)
    return max((point.num_steps for curve in own for point in curve.points), default=0)


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _pairs(results: SweepResults, arm: str, generator: str, axis: str) -> dict[int, Pair]:
    control = curves_by_seed(results, results.control, generator, axis)
    treated = curves_by_seed(results, arm, generator, axis)
    return {seed: (control[seed], treated[seed]) for seed in control if seed in treated}


def _missing_seeds(results: SweepResults, arm: str, generator: str) -> tuple[int, ...]:
    """Seeds of the arm in which it or the control has no finite value at the last step."""
    own = [curve for curve in results.curves if curve.generator == generator]
    last_step = last_step_of(results, generator)
    complete = {
        (curve.arm, curve.seed)
        for curve in own
        for point in curve.points
        if point.num_steps == last_step and is_number(point.metrics.get(results.metric))
    }
    own_seeds = results.seeds_of(arm)
    return tuple(seed for seed in own_seeds if not {(results.control, seed), (arm, seed)} <= complete)


def _axes(
    results: SweepResults,
    arm: str,
    generator: str,
    seeds: list[int],
    missing: tuple[int, ...],
    level: float,
    in_logs: bool,
) -> list[AxisRow]:
    """The speed-up of these seeds in each unit, the last one with the cost of fine-tuning."""
    rows = []
    for axis, (label, _) in AXES.items():
        pairs = _pairs(results, arm, generator, axis)
        if pairs:
            counted = {seed: speed_up(*pair, in_logs=in_logs) for seed, pair in pairs.items()}
            rows.append(_axis(label, seeds, counted, missing, level))
    pairs = _pairs(results, arm, generator, "device_seconds")
    measured = [each for each in results.autoencoders if each.arm == arm]
    costs = {each.seed: each.device_seconds for each in measured if is_number(each.device_seconds)}
    if pairs and all(seed in costs for seed in pairs):
        charged = {seed: speed_up(*pair, cost=costs[seed], in_logs=in_logs) for seed, pair in pairs.items()}
        rows.append(_axis(INCLUDING, seeds, charged, missing, level))
    return rows


def _axis(
    label: str, seeds: list[int], speed_ups: dict[int, SpeedUp], missing: tuple[int, ...], level: float
) -> AxisRow:
    """A seed whose points lack the unit is missing there."""
    lacking = tuple(seed for seed in seeds if seed not in speed_ups and seed not in missing)
    verdict = verdict_over_seeds(speed_ups, None, (*missing, *lacking), level)
    return AxisRow(label, [SeedSpeedUp(seed, speed_ups.get(seed)) for seed in seeds], verdict)


def _levels(pairs: dict[int, Pair], in_logs: bool) -> list[LevelRow]:
    """At each step but the first, whose level the control may have reached earlier."""
    steps = sorted(set.intersection(*(set(control.steps[1:]) for control, _ in pairs.values())))
    return [LevelRow(int(step), [_at(seed, step, *pair, in_logs) for seed, pair in pairs.items()]) for step in steps]


def _at(seed: int, step: float, control: LearningCurve, treated: LearningCurve, in_logs: bool) -> SeedSpeedUp:
    level = float(control.best[control.steps.index(step)])
    reached = level >= last_common_level(control, treated)
    return SeedSpeedUp(seed, speed_up(control, treated, level, in_logs=in_logs) if reached else None)


def _by_step(changes: dict[int, dict[float, float]]) -> dict[float, dict[int, float]]:
    """{step: {seed: change}} of the steps that all seeds have."""
    shared = sorted(set.intersection(*(set(each) for each in changes.values()))) if changes else []
    return {step: {seed: each[step] for seed, each in changes.items()} for step in shared}


def _over_samples(results: SweepResults, arm: str, generator: str) -> SampleInterval | None:
    """Where every point of both arms has as many resampled distances, and every resample a value.

    The distances that are resampled are those of pooled features alone.
    """
    points = [
        next((c.points for c in results.curves if (c.arm, c.generator) == (name, generator)), [])
        for name in (results.control, arm)
    ]
    counts = {len(point.resampled) for each in points for point in each}
    if len(counts) != 1 or counts == {0} or results.metric not in DISTANCES:
        return None
    steps = [tuple(point.num_steps for point in each) for each in points]
    drawn = [zip(*(point.resampled for point in each), strict=True) for each in points]
    found = [
        speed_up(LearningCurve(steps[0], control), LearningCurve(steps[1], treated))
        for control, treated in zip(*drawn, strict=True)
    ]
    if any(each.kind != "value" for each in found):
        return None
    tail = (1 - SAMPLE_SHARE) / 2
    low, high = np.quantile([each.ratio for each in found if each.ratio is not None], (tail, 1 - tail))
    return SampleInterval(float(low), float(high), counts.pop())

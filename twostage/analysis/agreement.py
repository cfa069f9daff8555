"""Do fresh seeds agree with a published study: does their mean fall where that of further seeds of it would?"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from twostage.analysis.comparison import Comparison, compare
from twostage.analysis.intervals import ERROR_RATE, IDENTICAL, interval_over_seeds, level_of_look, quantile
from twostage.analysis.records import SweepResults
from twostage.analysis.verdict import Verdict

Quantity = Literal["log speed-up", "log change", "difference"]


@dataclass(frozen=True)
class Agreement:
    """Fresh seeds beside a published study, for one comparison.

    Args:
        arm, arm_label, generator, generator_label: which.
        verdict: the study's.
        quantity: what is compared: the log speed-up, or, where some seed's is only a bound, the change of the metric at
            the last step, in logs or (where it may be negative) as a difference.
        published, fresh: its values by seed.
        mean: of the fresh seeds.
        low, high: prediction interval of that mean: of further seeds of the same experiment 95 of 100 means fall here.
            None where the study has one seed, or seeds with identical numbers.
        agrees: whether the mean lies there; None without an interval, or where a fresh seed has no value.
        repeated: fresh seeds with the very numbers of another seed, of the study or a fresh one before: they are no
            other training.
    """

    arm: str
    arm_label: str
    generator: str
    generator_label: str
    verdict: Verdict
    quantity: Quantity
    published: dict[int, float]
    fresh: dict[int, float]
    mean: float | None
    low: float | None
    high: float | None
    agrees: bool | None
    repeated: list[int]


def prediction_interval(
    values: Iterable[float], num_fresh: int, level: float = ERROR_RATE
) -> tuple[float, float] | None:
    """Where the mean of further values falls: mean ± t(n - 1) s sqrt(1/k + 1/n), by Student's t.

    Args:
        values: n earlier ones.
        num_fresh: k further ones.
        level: share of means that fall outside.

    Returns:
        Its ends; None for one value, or for identical ones.

    Raises:
        ValueError: for no values, earlier or further.
    """
    if num_fresh < 1:
        raise ValueError("a prediction needs at least one fresh seed")
    interval = interval_over_seeds(list(values))
    if interval.sd is None or interval.sd < IDENTICAL:
        return None
    error = interval.sd * math.sqrt(1 / num_fresh + 1 / interval.num_seeds)
    half = quantile(1 - level / 2, interval.num_seeds) * error
    return interval.mean - half, interval.mean + half


def agreements(results: SweepResults, comparisons: Iterable[Comparison]) -> list[Agreement]:
    """Of every comparison with that of the published study; none where there is no study."""
    published = results.published
    if published is None:
        return []
    earlier = replace(
        results,
        seeds=published.seeds,
        curves=published.curves,
        autoencoders=[],
        max_seeds=published.max_seeds,
        stopped=published.stopped,
    )
    arms = {arm.name: arm for arm in results.arms}
    generators = {generator.name: generator for generator in results.generators}
    found = []
    for fresh in comparisons:
        level = level_of_look(published.max_seeds)
        which = arms[fresh.arm], generators[fresh.generator]
        there = compare(earlier, *which, level)
        if there is not None and there.in_logs != fresh.in_logs:  # one side has values that may be negative
            there = compare(earlier, *which, level, in_logs=False)
            fresh = compare(results, *which, fresh.verdict.level, in_logs=False) or fresh
        if there is not None:
            found.append(_agreement(there, fresh))
    return found


def _agreement(there: Comparison, fresh: Comparison) -> Agreement:
    quantity: Quantity = "log speed-up"
    before, now = _speed_ups(there), _speed_ups(fresh)
    if before is None or now is None:
        quantity = "log change" if there.in_logs else "difference"
        before, now = _last_changes(there), _last_changes(fresh)
    low, high = (prediction_interval(before.values(), len(now)) if before and now else None) or (None, None)
    mean = sum(now.values()) / len(now) if now else None
    repeated = _repeated(before, now)
    return Agreement(
        arm=fresh.arm,
        arm_label=fresh.arm_label,
        generator=fresh.generator,
        generator_label=fresh.generator_label,
        verdict=there.verdict,
        quantity=quantity,
        published=dict(before),
        fresh=dict(now),
        mean=mean,
        low=low,
        high=high,
        agrees=None if repeated or fresh.verdict.missing_seeds else _lies_between(mean, low, high),
        repeated=repeated,
    )


def _repeated(before: Mapping[int, float], now: Mapping[int, float]) -> list[int]:
    """Fresh seeds whose number an earlier one has, too."""
    seen, found = list(before.values()), []
    for seed, value in now.items():
        if any(abs(value - other) < IDENTICAL for other in seen):
            found.append(seed)
        seen.append(value)
    return found


def _lies_between(mean: float | None, low: float | None, high: float | None) -> bool | None:
    return None if mean is None or low is None or high is None else low <= mean <= high


def _speed_ups(comparison: Comparison) -> Mapping[int, float] | None:
    """Log speed-ups by seed, without those that a verdict misses; None where some seed has only a bound."""
    missing = comparison.verdict.missing_seeds
    found = {each.seed: each.speed_up for each in comparison.per_seed if each.seed not in missing}
    values = {
        seed: each.log_ratio
        for seed, each in found.items()
        if each is not None and each.kind == "value" and each.log_ratio is not None
    }
    return values if len(values) == len(found) else None


def _last_changes(comparison: Comparison) -> Mapping[int, float]:
    return comparison.equal_steps[-1].changes if comparison.equal_steps else {}

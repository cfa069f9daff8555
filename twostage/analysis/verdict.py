"""Faster, slower or undecided: two intervals that must agree, or no verdict at all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from twostage.analysis.intervals import ERROR_RATE, Interval, interval_over_seeds
from twostage.analysis.pairs import SpeedUp
from twostage.analysis.planning import MOST_SEEDS, seeds_needed

Word = Literal["faster", "slower", "undecided"]
Reason = Literal[
    "intervals", "one seed", "identical seeds", "missing seeds", "bounds", "contains 1", "measures disagree"
]


@dataclass(frozen=True)
class Verdict:
    """What all seeds say together.

    Args:
        word: "faster" or "slower" is wrong in at most 2.5 % of comparisons of equal arms, each.
        reason: why: both "intervals" lie on one side; or what keeps the verdict open.
        ratio: geometric mean of the seeds' speed-ups; with bounds among them (`kind`) itself a bound. None where they
            point to different sides, or nothing is known.
        low, high: interval of the speed-up; None for one seed, identical seeds, or bounds.
        kind: "value", "at least" or "at most"; "mixed" for bounds of both kinds, "unresolved" for none.
        speed_up: interval of the log speed-up; None with bounds.
        change: interval of the log change (or difference) after equal steps; None where steps are not what is counted.
        num_seeds: that the verdict rests on.
        missing_seeds: seeds without a finite value at the last step, or without one of the arms.
        level: two-sided error rate of each interval.
        p: larger of the two intervals' p-values; None where there is none.
        seeds_needed: in all, to decide in four of five cases; None where decided, unknown, more than 20, or where the
            two quantities point to different sides.
        hidden: undecided, and more than 20 seeds would be needed.
    """

    word: Word
    reason: Reason
    ratio: float | None
    low: float | None
    high: float | None
    kind: str
    speed_up: Interval | None
    change: Interval | None
    num_seeds: int
    missing_seeds: list[int]
    level: float
    p: float | None
    seeds_needed: int | None
    hidden: bool


def verdict_over_seeds(
    speed_ups: Mapping[int, SpeedUp],
    changes: Mapping[int, float] | None,
    missing_seeds: tuple[int, ...] = (),
    level: float = ERROR_RATE,
) -> Verdict:
    """The verdict on an arm.

    Both intervals must lie on one side: that of the log speed-up, and that of the log change after equally many
    steps, which needs no interpolation. Where some seed's speed-up is only a bound, the change alone decides, unless
    the bound lies on the other side; where the unit is not steps, there is no change and the speed-up alone decides.

    Args:
        speed_ups: by seed.
        changes: by seed, of the values at the last common step; None for other units than steps.
        missing_seeds: that should be there and are not; a seed may not be dropped from a verdict. What they have beside
            is in none of the numbers, which are those of the others.
        level: two-sided, of each interval (`level_of_look`).

    Raises:
        ValueError: if there is no seed.
    """
    if not speed_ups:
        raise ValueError("a verdict needs at least one seed")
    counted = [each for seed, each in speed_ups.items() if seed not in missing_seeds]
    kinds = {each.kind for each in counted}
    values = [each.log_ratio for each in counted if each.log_ratio is not None]  # all that are resolved
    changed = [value for seed, value in (changes or {}).items() if seed not in missing_seeds]
    step_interval = interval_over_seeds(values, level) if kinds == {"value"} else None
    change = interval_over_seeds(changed, level) if changed else None
    deciding = [each for each in (step_interval, change) if each is not None]
    kind = _joint_kind(kinds)
    ratio = None if kind in ("mixed", "unresolved") else math.exp(sum(values) / len(values))
    word, reason = _decide(step_interval, change, missing_seeds)
    contradicted = _is_contradicted(word, kind, ratio)
    if contradicted:
        word, reason = "undecided", "measures disagree"
    needed = hidden = None
    if reason in ("contains 1", "measures disagree"):
        opposed = contradicted or (step_interval is not None and change is not None and _opposed(step_interval, change))
        needed = None if opposed else seeds_needed(deciding, level)  # more seeds make two answers surer, not one
        firmly = opposed and reason == "measures disagree"
        hidden = needed is None and not firmly and len(counted) < MOST_SEEDS
    ps = [each.p for each in deciding if each.p is not None]
    ends = None if step_interval is None else step_interval.ends
    return Verdict(
        word=word,
        reason=reason,
        ratio=ratio,
        low=None if ends is None else math.exp(ends[0]),
        high=None if ends is None else math.exp(ends[1]),
        kind=kind,
        speed_up=step_interval,
        change=change,
        num_seeds=len(counted),
        missing_seeds=list(missing_seeds),
        level=level,
        p=max(ps) if ps and len(ps) == len(deciding) else None,
        seeds_needed=needed,
        hidden=bool(hidden),
    )


def _decide(speed_up: Interval | None, change: Interval | None, missing: tuple[int, ...]) -> tuple[Word, Reason]:
    legs = [(each, sign) for each, sign in ((speed_up, 1), (change, -1)) if each is not None]
    if missing:
        return "undecided", "missing seeds"
    if not legs:
        return "undecided", "bounds"
    if legs[0][0].num_seeds == 1:
        return "undecided", "one seed"
    if any(each.identical for each, _ in legs):
        return "undecided", "identical seeds"
    sides = {_side(each, sign) for each, sign in legs}
    if sides == {1}:
        return "faster", "intervals"
    if sides == {-1}:
        return "slower", "intervals"
    contains_one = speed_up is None or _side(speed_up, 1) == 0
    return "undecided", "contains 1" if contains_one else "measures disagree"


def _side(interval: Interval, sign: int) -> int:
    """1 where the whole interval says faster, -1 where it says slower, 0 where it contains no difference."""
    assert interval.ends is not None, "one seed and identical ones are answered before"
    low, high = sorted(sign * end for end in interval.ends)
    return 1 if low > 0 else -1 if high < 0 else 0


def _opposed(speed_up: Interval, change: Interval) -> bool:
    """Whether the means of the two point to different sides; a change above 0 is one for the worse."""
    return speed_up.mean * change.mean > 0


def _is_contradicted(word: Word, kind: str, ratio: float | None) -> bool:
    """Whether bounds in steps, which have no interval, say the opposite of the change after equal steps."""
    if ratio is None:
        return False
    opposite = {("slower", "at least"): ratio > 1, ("faster", "at most"): ratio < 1}
    return opposite.get((word, kind), False)


def _joint_kind(kinds: set[str]) -> str:
    """What the geometric mean of speed-ups of these kinds is."""
    if "unresolved" in kinds or not kinds:
        return "unresolved"
    if {"at least", "at most"} <= kinds:
        return "mixed"
    return next((kind for kind in ("at least", "at most") if kind in kinds), "value")

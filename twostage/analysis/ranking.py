"""Ranks of values that are known up to an interval: who is better for certain stands above, the others share a rank."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twostage.analysis.intervals import interval_over_seeds
from twostage.analysis.verdict import Verdict

Ends = tuple[float, float]
"""Of an interval; infinite where one side is open."""


@dataclass(frozen=True)
class Standing:
    """A value among others of its kind.

    Args:
        value: of the quantity; None where it is not known.
        low, high: ends of its interval, equal for what has no spread; None where there is none, or that side is open.
        rank: 1 and the number of those whose whole interval is better; None without an interval.
        best: has rank 1, and not all have.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    rank: int | None = None
    best: bool = False


def ranks(
    intervals: Sequence[Ends | None], higher_is_better: bool, above: Mapping[int, int] | None = None
) -> list[int | None]:
    """1 and the number of those whose whole interval is better; overlapping intervals put nobody above another.

    What has no interval has no rank, and is above nobody.

    Args:
        above: {place: place of another that is known to be better}, though their intervals may overlap: pairs tell
            more than the two intervals. It stands below whatever that one stands below, too.
    """
    sign = 1 if higher_is_better else -1
    turned = [None if ends is None else sorted(sign * end for end in ends) for ends in intervals]
    better = [
        {other for other, theirs in enumerate(turned) if ends and theirs and theirs[0] > ends[1]} for ends in turned
    ]
    for place in above or {}:
        better[place] |= _all_above(place, better, above or {})
    return [None if ends is None else 1 + len(others) for ends, others in zip(turned, better, strict=True)]


def _all_above(place: int, better: Sequence[set[int]], above: Mapping[int, int]) -> set[int]:
    """The one that is known to be better, the one that is known to be better than that, ... and all above any."""
    chain, found = [place], set[int]()
    while (known := above.get(chain[-1])) is not None and known not in chain:
        chain.append(known)
        found |= {known} | better[known]
    return found - {place}


def standings(
    values: Sequence[float | None],
    intervals: Sequence[Ends | None],
    higher_is_better: bool,
    above: Mapping[int, int] | None = None,
) -> list[Standing]:
    """The values with their ranks, in their order; `above` as of `ranks`."""
    found = ranks(intervals, higher_is_better, above)
    decided = len({rank for rank in found if rank is not None}) > 1
    return [
        Standing(value, *_finite(ends), rank, decided and rank == 1)
        for value, ends, rank in zip(values, intervals, found, strict=True)
    ]


def _finite(ends: Ends | None) -> tuple[float | None, float | None]:
    """None for a side that is open, and for both where there is no interval."""
    low, high = ends or (-math.inf, math.inf)
    return (low if math.isfinite(low) else None), (high if math.isfinite(high) else None)


def ends_over_seeds(values: Sequence[float]) -> Ends | None:
    """Ends of the 95 % t interval of a mean over seeds; the value itself where all seeds have it, None of one seed."""
    if not values:
        return None
    interval = interval_over_seeds(values)
    return (interval.mean, interval.mean) if interval.identical else interval.ends


def ends_of_verdict(verdict: Verdict) -> Ends | None:
    """Ends of a speed-up that agree with its verdict: they hold 1 where it is open, and lie beside 1 where it is not.

    None where nothing is known, or a seed is missing: it may not be dropped.
    """
    if verdict.word == "undecided":
        if verdict.low is None or verdict.high is None or verdict.missing_seeds:
            return None
        return min(verdict.low, 1.0), max(verdict.high, 1.0)
    if verdict.low is not None and verdict.high is not None:
        return verdict.low, verdict.high
    return (math.nextafter(1, 2), math.inf) if verdict.word == "faster" else (0.0, math.nextafter(1, 0))

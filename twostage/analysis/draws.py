"""What somebody with fewer seeds would have published: the verdicts of all draws of one, three and five of them."""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from twostage.analysis.comparison import Comparison
from twostage.analysis.intervals import IDENTICAL, quantile

SIZES = (1, 3, 5)


@dataclass(frozen=True)
class SeedDraws:
    """All draws of so many of a comparison's seeds.

    Args:
        arm, generator: which comparison.
        num_seeds: of each draw.
        num_draws: how many there are.
        faster, slower, undecided: shares of them with this verdict; one seed decides nothing.
        lowest, highest: speed-ups (geometric means) among the draws; None where some seed's is only a bound.
        above_one: share of draws whose speed-up is above 1; None likewise.
    """

    arm: str
    generator: str
    num_seeds: int
    num_draws: int
    faster: float
    slower: float
    undecided: float
    lowest: float | None
    highest: float | None
    above_one: float | None


@dataclass(frozen=True)
class SeedValues:
    """What a verdict is made of, by seed: log speed-up (None: a bound), log change (or difference) at the last step."""

    speed_ups: dict[int, float | None]
    changes: dict[int, float]
    level: float


def seed_values(comparison: Comparison) -> SeedValues | None:
    """Of the seeds of a comparison that miss nothing; None where some has no step in common with its control."""
    changes = comparison.equal_steps[-1].changes if comparison.equal_steps else {}
    speed_ups: dict[int, float | None] = {}
    missing = comparison.verdict.missing_seeds
    for each in (each for each in comparison.per_seed if each.seed not in missing):
        own = each.speed_up
        speed_ups[each.seed] = own.log_ratio if own is not None and own.kind == "value" else None
    if set(changes) != set(speed_ups):
        return None
    return SeedValues(speed_ups, changes, comparison.verdict.level)


def draws(comparison: Comparison, sizes: tuple[int, ...] = SIZES) -> list[SeedDraws]:
    """Of each size up to the number of seeds, and of both where there are two; none where `seed_values` has none.

    Verdicts are those of `verdict_over_seeds` at the comparison's own level, as if no seed were missing.
    """
    values = seed_values(comparison)
    if values is None:
        return []
    count = len(values.changes)
    possible = [size for size in sizes if size <= count] + ([2] if count == 2 and sizes is SIZES else [])
    return [_draws(comparison, values, size) for size in possible]


def _draws(comparison: Comparison, values: SeedValues, size: int) -> SeedDraws:
    picks = np.array(list(combinations(range(len(values.changes)), size)))
    logs = np.array([np.nan if each is None else each for each in values.speed_ups.values()])[picks]
    changes = np.array(list(values.changes.values()))[picks]
    half = quantile(1 - values.level / 2, size) / math.sqrt(size) if size > 1 else math.inf
    by_change, by_speed = _sides(-changes, half), _sides(logs, half)
    sides = np.where(np.isnan(logs).any(axis=1), by_change, np.where(by_change == by_speed, by_change, 0))
    means = logs.mean(axis=1)
    known = not np.isnan(means).any()
    return SeedDraws(
        arm=comparison.arm,
        generator=comparison.generator,
        num_seeds=size,
        num_draws=len(picks),
        faster=float(np.mean(sides == 1)),
        slower=float(np.mean(sides == -1)),
        undecided=float(np.mean(sides == 0)),
        lowest=math.exp(means.min()) if known else None,
        highest=math.exp(means.max()) if known else None,
        above_one=float(np.mean(means > 0)) if known else None,
    )


def _sides(values: np.ndarray, half: float) -> np.ndarray:
    """1, -1 or 0 for each row: on which side of 0 its interval lies, mean ± half sd; 0 for identical values."""
    if values.shape[1] == 1:
        return np.zeros(len(values))
    means, sds = values.mean(axis=1), values.std(axis=1, ddof=1)
    with np.errstate(invalid="ignore"):
        decided = (np.abs(means) > half * sds) & (sds >= IDENTICAL)
    return np.where(decided, np.sign(means), 0)

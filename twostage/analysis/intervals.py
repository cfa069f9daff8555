"""Student's t over seeds, and the levels at which one may look several times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

ERROR_RATE = 0.05  # of two-sided intervals and verdicts
IDENTICAL = 1e-9  # a smaller standard deviation over seeds: they are not different trainings
FIRST_LOOK = 3  # seeds at the first look of a sequential design
SEQUENTIAL_LEVELS = {5: 0.0229, 6: 0.0187, 8: 0.0145, 10: 0.0121, 12: 0.0106, 20: 0.0077}
"""Two-sided level of each look, by the most seeds, where one looks after every seed from the third on.

Constant over the looks (Pocock, 1977) and together `ERROR_RATE`; from 400,000 simulated paths of Student's t.
"""


@dataclass(frozen=True)
class Interval:
    """Student's t interval of a quantity that has one value per seed.

    Args:
        mean, sd: over seeds (sd with n - 1).
        low, high: ends; None for one seed, or for seeds that gave identical numbers.
        num_seeds: n.
        level: two-sided error rate.
        p: two-sided p-value of a mean of 0; None where there is no interval.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    num_seeds: int
    level: float
    p: float | None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Low and high."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def identical(self) -> bool:
        """Whether several seeds gave the same number."""
        return self.sd is not None and self.sd < IDENTICAL


def interval_over_seeds(values: Sequence[float], level: float = ERROR_RATE) -> Interval:
    """Mean and t interval of one value per seed.

    Raises:
        ValueError: if there is no value.
    """
    if not len(values):
        raise ValueError("an interval over seeds needs at least one value")
    count, mean = len(values), float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if count > 1 else None
    if sd is None or sd < IDENTICAL:
        return Interval(mean, sd, None, None, count, level, None)
    error = sd / math.sqrt(count)
    half = quantile(1 - level / 2, count) * error
    p = 2 * float(stdtr(count - 1, -abs(mean) / error))
    return Interval(mean, sd, mean - half, mean + half, count, level, p)


def quantile(share: float, num_seeds: int) -> float:
    """Of Student's t with num_seeds - 1 degrees of freedom."""
    return float(stdtrit(num_seeds - 1, share))


def level_of_look(max_seeds: int | None) -> float:
    """Two-sided level of every look.

    Args:
        max_seeds: None: the number of seeds was fixed beforehand. Otherwise one looks after each seed from the third
            on, until the verdict stands or there are so many; for a number that is not listed, the level of the next
            larger one, which errs on the safe side.

    Raises:
        ValueError: if there is no level for so many.
    """
    if max_seeds is None:
        return ERROR_RATE
    listed = [number for number in SEQUENTIAL_LEVELS if number >= max_seeds]
    if max_seeds < FIRST_LOOK or not listed:
        most = max(SEQUENTIAL_LEVELS)
        raise ValueError(f"at most {max_seeds} seeds: looks are planned for {FIRST_LOOK} to {most} of them")
    return SEQUENTIAL_LEVELS[listed[0]]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several comparisons together (Holm, 1979)."""
    order = np.argsort(p_values)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted

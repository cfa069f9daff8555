"""How many seeds a verdict needs: before a sweep from what is known of the spread, after it from its own seeds."""

import math

from scipy import stats

from twostage.analysis.intervals import ERROR_RATE, Interval, quantile

POWER = 0.8
MOST_SEEDS = 20  # beyond it the answer is "more than 20"
RATIO_TOLERANCE = 1e-6  # of a log speed-up that is solved for
TRAINING_SD = 0.0126  # of a Fréchet distance between trainings, relative: 25 published SiTs; our sweeps had 1.5 %


def seeds_needed(intervals: list[Interval], level: float = ERROR_RATE) -> int | None:
    """Seeds in all with which a verdict would come in four of five cases, if the effect is what these seeds suggest.

    Args:
        intervals: of the quantities that must both be decided (log speed-up, log change after equal steps).
        level: two-sided level of the decision.

    Returns:
        None for more than `MOST_SEEDS`: the difference, if any, drowns in the spread between seeds.
    """
    effect = min(abs(each.mean) / each.sd for each in intervals if each.sd is not None)
    for count in range(intervals[0].num_seeds + 1, MOST_SEEDS + 1):
        if effect * math.sqrt(count) >= quantile(1 - level / 2, count) + quantile(POWER, count):
            return count
    return None


def speed_up_sd(slope: float, training_sd: float = TRAINING_SD, shared: float = 0.0, effect_sd: float = 0.03) -> float:
    """Standard deviation of a seed's log speed-up, to plan with.

    Args:
        slope: of the control at its end, see `end_slope`.
        training_sd: relative sd of the metric between trainings.
        shared: share of its variance that the arms of a pair have in common.
        effect_sd: sd of the true log speed-up between seeds.
    """
    return math.sqrt(2 * (1 - shared) * (training_sd / slope) ** 2 + effect_sd**2)


def power(ratio: float, sd: float, num_seeds: int, level: float = ERROR_RATE) -> float:
    """Probability that the t test of `num_seeds` log speed-ups of this sd finds a true speed-up of `ratio`."""
    noncentrality = math.log(ratio) / sd * math.sqrt(num_seeds)
    threshold = quantile(1 - level / 2, num_seeds)
    return float(stats.nct.sf(threshold, num_seeds - 1, noncentrality))


def seeds_for(ratio: float, sd: float, level: float = ERROR_RATE) -> int:
    """Fewest seeds, at least three, that find a true speed-up of `ratio` in four of five cases."""
    count = 3
    while power(ratio, sd, count, level) < POWER:
        count += 1
    return count


def ratio_seen(sd: float, num_seeds: int, level: float = ERROR_RATE, share: float = 0.9) -> float:
    """The true speed-up above 1 that the t test of `power` finds in this share of cases."""
    low, high = 0.0, sd
    while power(math.exp(high), sd, num_seeds, level) < share:
        low, high = high, 2 * high
    while high - low > RATIO_TOLERANCE:
        middle = (low + high) / 2
        found = power(math.exp(middle), sd, num_seeds, level) >= share
        low, high = (low, middle) if found else (middle, high)
    return math.exp(high)


def retraining_move(slope: float) -> float:
    """Share by which training both arms again moves one seed's speed-up: two standard deviations.

    Args:
        slope: of the control at its end, above 0.
    """
    return 2 * math.sqrt(2) * TRAINING_SD / slope

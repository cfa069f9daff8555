"""What a method says of equal arms: rates over all triples of pairs, planted speed-ups, and the noise floor.

`python -m studies.calibration REPORT` takes the report.json of a sweep of two arms that differ in a seed alone.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from twostage.analysis.comparison import curves_by_seed
from twostage.analysis.curves import LearningCurve, end_slope
from twostage.analysis.pairs import changes_at_equal_steps, speed_up
from twostage.analysis.records import SweepResults
from twostage.analysis.verdict import Verdict, verdict_over_seeds
from twostage.verify import find_study, read_study

SIZE = 3  # pairs in a comparison: the fewest that are recommended
SHIFTS = (1, 2)  # points by which a curve is relabelled
SPACING = 0.02  # how far the factors between points may differ, relative

Pair = tuple[LearningCurve, LearningCurve]


@dataclass(frozen=True)
class Rates:
    """Of all comparisons of `SIZE` pairs, whichever arm of a pair is called treated.

    Args:
        planted: true speed-up.
        num_comparisons: how many.
        faster, slower: shares with that verdict.
        covered: share of intervals of the speed-up that contain the true one, of those that have an interval.
        without_interval: share without one, because a level was reached at a first point.
    """

    planted: float
    num_comparisons: int
    faster: float
    slower: float
    covered: float
    without_interval: float


@dataclass(frozen=True)
class NoiseFloor:
    """How much equal trainings differ.

    Args:
        log_speed_up, log_change: standard deviations over pairs, with n - 1.
        log_distance: of one training at the last step, both arms pooled.
        correlation: of both arms of a pair, at the last step.
        slope: -d log distance / d log steps at the end, mean of all curves.
    """

    log_speed_up: float
    log_change: float
    log_distance: float
    correlation: float
    slope: float


def pairs_of(results: SweepResults) -> list[Pair]:
    """Curves of both arms by seed.

    Raises:
        ValueError: for a sweep of other than two arms and one generator, or of fewer than `SIZE` pairs.
    """
    if len(results.arms) != 2 or len(results.generators) != 1:
        raise ValueError(f"results: {len(results.arms)} arms, {len(results.generators)} generators; take two and one")
    generator = results.generators[0].name
    first, second = (curves_by_seed(results, arm.name, generator) for arm in results.arms)
    pairs = [(first[seed], second[seed]) for seed in first if seed in second]
    if len(pairs) < SIZE:
        raise ValueError(f"results: {len(pairs)} pairs; a comparison takes {SIZE}")
    return pairs


def rates(pairs: Sequence[Pair], shift: int = 0) -> Rates:
    """Error rates, or with a shift those of finding a speed-up.

    Args:
        pairs: of equal arms, all with the same steps.
        shift: points by which the treated curve is relabelled: what it was at point i + shift it is at point i then.

    Raises:
        ValueError: if the points are not evenly spaced in the log of the steps, or fewer than two are left.
    """
    planted = planted_ratio(pairs[0][0].steps, shift)
    verdicts = list(_verdicts(pairs, shift))
    intervals = [(each.low, each.high) for each in verdicts if each.low is not None and each.high is not None]
    words = [each.word for each in verdicts]
    return Rates(
        planted=planted,
        num_comparisons=len(verdicts),
        faster=words.count("faster") / len(words),
        slower=words.count("slower") / len(words),
        covered=sum(low <= planted <= high for low, high in intervals) / len(intervals) if intervals else math.nan,
        without_interval=1 - len(intervals) / len(verdicts),
    )


def planted_ratio(steps: Sequence[float], shift: int) -> float:
    """The factor between points that are `shift` apart; errors as of `rates`."""
    if len(steps) - shift < 2:
        raise ValueError(f"{len(steps)} points cannot be relabelled by {shift}")
    factors = [after / before for before, after in zip(steps, steps[shift:], strict=False)]
    ratio = math.exp(sum(map(math.log, factors)) / len(factors))
    if any(abs(factor / ratio - 1) > SPACING for factor in factors):
        raise ValueError(f"points {list(steps)} are not evenly spaced in the log of the steps")
    return ratio


def _verdicts(pairs: Sequence[Pair], shift: int) -> Iterator[Verdict]:
    """Each triple with each naming of its arms; of equal arms the namings that mirror others are left out."""
    both = [[_measures(pair, shift), _measures(pair[::-1], shift)] for pair in pairs]
    for chosen in combinations(both, SIZE):
        first = chosen[0] if shift else chosen[0][:1]
        for named in product(first, *chosen[1:]):
            yield verdict_over_seeds(*({seed: each[at] for seed, each in enumerate(named)} for at in (0, 1)))


def _measures(pair: Pair, shift: int) -> tuple:
    """Speed-up and change at the last step, the second curve relabelled by `shift` points."""
    control, treated = pair
    last = len(control.steps) - shift
    control = LearningCurve(control.steps[:last], control.values[:last])
    treated = LearningCurve(treated.steps[:last], treated.values[shift:])
    changes = changes_at_equal_steps(control, treated)
    return speed_up(control, treated), changes[max(changes)]


def noise_floor(pairs: Sequence[Pair]) -> NoiseFloor:
    """Standard deviations, correlation and slope of equal arms."""
    measured = [_measures(pair, 0) for pair in pairs]
    logs = np.log([[curve.values[-1] for curve in pair] for pair in pairs])
    slopes = [slope for pair in pairs for slope in map(end_slope, pair) if slope is not None]
    deviations = logs - logs.mean(0)
    return NoiseFloor(
        log_speed_up=float(np.std([each.log_ratio for each, _ in measured if each.log_ratio is not None], ddof=1)),
        log_change=float(np.std([change for _, change in measured], ddof=1)),
        log_distance=float(np.sqrt((deviations**2).sum() / (deviations.size - 2))),
        correlation=float(np.corrcoef(logs.T)[0, 1]),
        slope=float(np.mean(slopes)),
    )


def tables(results: SweepResults) -> str:
    """What the study's page shows."""
    pairs = pairs_of(results)
    lines = ["| planted speed-up | comparisons | faster | slower | intervals that contain it | without an interval |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for each in (rates(pairs, shift) for shift in (0, *SHIFTS)):
        shares = (each.faster, each.slower, each.covered, each.without_interval)
        lines.append(f"| {each.planted:.2f} | {each.num_comparisons} | {' | '.join(f'{x:.1%}' for x in shares)} |")
    floor = noise_floor(pairs)
    lines += ["", f"| noise floor, {len(pairs)} pairs | |", "| --- | --- |"]
    lines.append(f"| log speed-up of a pair, standard deviation | {floor.log_speed_up:.4f} |")
    lines.append(f"| log change of a pair at the last step, standard deviation | {floor.log_change:.4f} |")
    lines.append(f"| log distance of a training at the last step, standard deviation | {floor.log_distance:.4f} |")
    lines.append(f"| correlation of both trainings of a pair | {floor.correlation:.2f} |")
    lines.append(f"| slope of the curves at their end | {floor.slope:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", help="as of verify.py")
    print(tables(read_study(find_study(parser.parse_args().report))))

"""Who stands above whom: only whose whole interval is better; and what fewer seeds would have said."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from tests.twostage.synthetic_sweep import METRIC, changed, with_metric
from twostage.analysis.draws import draws
from twostage.analysis.leaderboard import COST, EQUIVARIANCE, SPEED_UP
from twostage.analysis.pairs import SpeedUp
from twostage.analysis.ranking import ends_of_verdict, ranks, standings
from twostage.analysis.records import Arm, GeneratorEntry
from twostage.analysis.summary import summarize
from twostage.analysis.verdict import verdict_over_seeds


def test_overlapping_intervals_share_a_rank_and_better_ones_stand_above():
    assert ranks([(1.0, 1.0), (1.3, 1.5), (1.4, 1.8), (0.9, 1.1), None], higher_is_better=True) == [3, 1, 1, 3, None]
    assert ranks([(5, 6), (1, 2), (1.5, 5.5)], higher_is_better=False) == [2, 1, 1]


def test_the_best_are_marked_only_where_somebody_is_worse():
    assert [each.best for each in standings([1, 2, 3], [(0, 2), (1, 3), (2, 4)], True)] == [False] * 3
    assert [each.best for each in standings([1, 5, 5], [(0, 2), (4, 6), (4, 6)], True)] == [False, True, True]
    open_end = standings([4], [(2.0, math.inf)], True)[0]
    assert (open_end.low, open_end.high) == (2.0, None)


@pytest.mark.parametrize(
    ("factors", "word", "above"),
    [((2.0, 1.9, 2.1), "faster", True), ((0.5, 0.52, 0.48), "slower", False), ((2.0, 0.5, 1.1), "undecided", None)],
)
def test_a_rank_never_says_more_than_the_verdict(factors, word, above):
    rows = summarize(changed(factors)).leaderboard
    treated = next(row for row in rows if not row.is_control)
    control = next(row for row in rows if row.is_control)
    assert treated.verdict.word == word
    difference = control.columns[SPEED_UP].rank - treated.columns[SPEED_UP].rank
    assert difference == (0 if above is None else 1 if above else -1)
    assert [row.columns[SPEED_UP].value for row in rows] == sorted((1.0, treated.verdict.ratio), reverse=True)


def test_bounds_and_missing_seeds_are_ranked_by_what_is_known():
    bound = summarize(changed((100.0, 90.0, 80.0)))
    row = next(row for row in bound.leaderboard if not row.is_control)
    assert row.columns[SPEED_UP].best
    results = changed((2.0, 1.9, 2.1, 2.0))
    lacking = [curve for curve in results.curves if (curve.arm, curve.seed) != ("equivariant", 3)]
    verdict = summarize(replace(results, curves=lacking)).comparisons[0].verdict
    assert verdict.low > 1
    assert ends_of_verdict(verdict) is None


def test_every_column_is_a_mean_over_seeds_and_the_cost_has_the_fine_tuning():
    results = changed((2.0, 1.9, 2.1))
    row = next(row for row in summarize(results).leaderboard if not row.is_control)
    assert row.num_steps == 1600
    last = [curve.points[-1].metrics[METRIC] for curve in results.curves if curve.arm == "equivariant"]
    assert row.columns[METRIC].value == pytest.approx(np.mean(last))
    assert row.columns[COST].value == pytest.approx(0.1 * 1600 + 10)
    assert row.fine_tuning_seconds == 10
    assert row.columns["psnr"].rank == 2, "its reconstructions are worse for certain"
    assert row.columns[EQUIVARIANCE].best
    assert {METRIC, "psnr", f"r{METRIC}", EQUIVARIANCE, COST, SPEED_UP} == set(row.columns)


def test_five_arms_and_two_generators_are_ranked_within_each_generator():
    results = changed((2.0, 1.9, 2.1))
    arms = [Arm(f"arm-{i}", f"Arm {i}") for i in range(3)]
    treated = [curve for curve in results.curves if curve.arm == "equivariant"]
    curves = results.curves + [replace(curve, arm=arm.name) for arm in arms for curve in treated]
    curves += [replace(curve, generator="dit") for curve in curves]
    generators = [*results.generators, GeneratorEntry("dit", "DiT")]
    board = summarize(replace(results, arms=[*results.arms, *arms], curves=curves, generators=generators)).leaderboard
    assert [row.generator for row in board] == ["sit"] * 5 + ["dit"] * 5
    assert [row.columns[SPEED_UP].rank for row in board] == [1, 1, 1, 1, 5] * 2
    assert board[4].is_control


@pytest.mark.parametrize("factors", [(2.0, 1.3, 1.6, 0.7, 1.1, 1.9), (100.0, 90.0, 80.0, 1.2), (2.0, 2.0, 2.0)])
def test_draws_of_fewer_seeds_have_the_verdicts_of_those_seeds(factors):
    results = with_metric(
        changed(factors),
        lambda curve, point: point.metrics[METRIC] * (1 + 0.01 * math.sin(7 * curve.seed + len(curve.arm))),
    )
    results = results if len(set(factors)) > 1 else changed(factors)
    (comparison,) = summarize(results).comparisons
    speed_ups: dict[int, SpeedUp] = {each.seed: each.speed_up for each in comparison.per_seed}
    changes = comparison.equal_steps[-1].changes
    found = draws(comparison, sizes=(1, 2, 3, len(factors)))
    assert [each.num_draws for each in found] == [math.comb(len(factors), each.num_seeds) for each in found]
    for each in found:
        verdicts = [
            verdict_over_seeds({seed: speed_ups[seed] for seed in pick}, {seed: changes[seed] for seed in pick})
            for pick in combinations(speed_ups, each.num_seeds)
        ]
        words = [verdict.word for verdict in verdicts]
        shares = [words.count(word) / len(words) for word in ("faster", "slower", "undecided")]
        assert [each.faster, each.slower, each.undecided] == pytest.approx(shares)
        if each.lowest is not None:
            ratios = [verdict.ratio for verdict in verdicts]
            assert [each.lowest, each.highest] == pytest.approx([min(ratios), max(ratios)])
            assert each.above_one == pytest.approx(sum(ratio > 1 for ratio in ratios) / len(ratios))

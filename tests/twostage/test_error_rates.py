"""How often verdicts err, counted over simulated sweeps whose true speed-up is known."""

import math

import numpy as np
import pytest

from studies.simulated_curves import POINTS, simulate
from twostage.analysis.curves import LearningCurve
from twostage.analysis.intervals import level_of_look
from twostage.analysis.pairs import changes_at_equal_steps, speed_up
from twostage.analysis.verdict import verdict_over_seeds

NUM_SWEEPS, MOST_SEEDS = 1000, 10
STEPS = tuple(np.round(1000 * POINTS))


def measured_pairs(shape, true_speed_up, num_pairs, seed):
    """(speed-up, change after equal steps) of each simulated pair."""
    control, treated = simulate(shape, true_speed_up, num_pairs, np.random.default_rng(seed))
    pairs = []
    for values in zip(control, treated, strict=True):
        curves = [LearningCurve(STEPS, each) for each in values]
        pairs.append((speed_up(*curves), changes_at_equal_steps(*curves)[STEPS[-1]]))
    return pairs


def verdicts(pairs, num_seeds, level=0.05):
    """Verdicts of sweeps of `num_seeds`, each from the first so many of its own ten pairs."""
    found = []
    for start in range(0, len(pairs), MOST_SEEDS):
        speed_ups, changes = zip(*pairs[start : start + num_seeds], strict=True)
        found.append(verdict_over_seeds(dict(enumerate(speed_ups)), dict(enumerate(changes)), level=level))
    return found


def shares(found, true_speed_up):
    """Coverage of the intervals there are, and shares of verdicts "faster" and "slower"."""
    with_ends = [each for each in found if each.low is not None]
    covered = np.mean([each.low <= true_speed_up <= each.high for each in with_ends])
    words = [each.word for each in found]
    return covered, words.count("faster") / len(words), words.count("slower") / len(words)


@pytest.fixture(scope="module")
def equal_arms():
    return measured_pairs("mid", 1.0, NUM_SWEEPS * MOST_SEEDS, seed=20261124)


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_equal_arms_are_called_faster_or_slower_in_one_of_forty_sweeps_each(equal_arms, num_seeds):
    coverage, faster, slower = shares(verdicts(equal_arms, num_seeds), 1.0)
    assert 0.93 <= coverage <= 0.97
    assert faster <= 0.03
    assert slower <= 0.03


@pytest.mark.slow
def test_two_seeds_are_as_honest_as_ten(equal_arms):
    coverage, faster, slower = shares(verdicts(equal_arms, 2), 1.0)
    assert 0.93 <= coverage <= 0.97
    assert max(faster, slower) <= 0.03


@pytest.mark.slow
def test_looking_after_every_seed_errs_no_more_often(equal_arms):
    open_ones, wrong = list(range(NUM_SWEEPS)), {"faster": 0, "slower": 0}
    for num_seeds in range(3, MOST_SEEDS + 1):
        found = verdicts(equal_arms, num_seeds, level_of_look(MOST_SEEDS))
        for number in list(open_ones):
            if found[number].word != "undecided":
                wrong[found[number].word] += 1
                open_ones.remove(number)
    assert all(count / NUM_SWEEPS <= 0.03 for count in wrong.values())


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "true_speed_up", "most_often"), [("mid", 1.25, 0.8), ("tiny", 1.1, 0.4)])
def test_intervals_contain_a_true_speed_up_and_find_it(shape, true_speed_up, most_often):
    pairs = measured_pairs(shape, true_speed_up, 400 * MOST_SEEDS, seed=7)
    for num_seeds in (3, 5, 10):
        coverage, faster, slower = shares(verdicts(pairs, num_seeds), true_speed_up)
        assert 0.93 <= coverage <= 0.97
        assert slower == 0
        assert faster >= most_often


def test_swapping_the_arms_mirrors_every_number():
    control, treated = simulate("shapes", 1.25, 30, np.random.default_rng(0))
    for values in zip(control, treated, strict=True):
        forth = speed_up(*(LearningCurve(STEPS, each) for each in values))
        back = speed_up(*(LearningCurve(STEPS, each) for each in reversed(values)))
        assert forth.kind == {"at least": "at most", "at most": "at least"}.get(back.kind, back.kind)
        assert (forth.log_ratio or 0.0) == -(back.log_ratio or 0.0)


def test_a_planted_speed_up_is_found_in_relabelled_curves():
    """Points of a curve at twice the steps, called the steps before: a true speed-up of 2 with the curve's noise."""
    control, _ = simulate("mid", 1.0, 3, np.random.default_rng(1))
    for values in control:
        slow, fast = LearningCurve(STEPS[:-2], values[:-2]), LearningCurve(STEPS[:-2], values[2:])
        assert speed_up(slow, fast).ratio == pytest.approx(2, rel=0.02)
    assert math.isclose(STEPS[2] / STEPS[0], 2, rel_tol=0.01)

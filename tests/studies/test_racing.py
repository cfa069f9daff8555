"""The simulation of races: its loop is that of sweeps, and its rates are those of docs/racing.md."""

import math
from dataclasses import replace

import numpy as np
import pytest

from studies.racing import CONTROL, Trainings, bound, draw_sweeps, play, rates, resampled, simulated
from tests.twostage.synthetic_sweep import METRIC, synthetic_results
from twostage.analysis.racing import Race
from twostage.analysis.records import Arm, Curve, Point
from twostage.analysis.summary import summarize
from twostage.looks import after_look, looks
from twostage.schema import Sweep

ONE_GOOD = simulated("one good", "mid", (1, 1, 1, 1.25), 6)


def as_results(trainings: Trainings, seeds, stopped):
    """What a sweep would have collected at a look."""
    had = {each.arm: each.seeds for each in stopped}
    curves = [
        Curve(
            arm,
            "sit",
            seed,
            [Point(int(s), {METRIC: v}) for s, v in zip(own[seed].steps, own[seed].values, strict=True)],
        )
        for arm, own in trainings.arms.items()
        for seed in had.get(arm, seeds)
    ]
    arms = [Arm(arm, arm) for arm in trainings.arms]
    made = replace(synthetic_results(), control=CONTROL, arms=arms, seeds=list(seeds), curves=curves, autoencoders=[])
    return replace(made, differences=[], cost=[], max_seeds=6, stopped=stopped)


def test_a_simulated_race_goes_as_that_of_a_sweep():
    """Stops and verdicts of `twostage.looks` at every look, on the same curves."""
    sweep = Sweep(seeds=list(range(6)), until_decided=True, racing=True)
    for trainings in draw_sweeps(ONE_GOOD, count=4):
        played = play(trainings, Race(CONTROL, ["sit"], 4, 6))
        results = None
        for seeds in looks(sweep):
            results = after_look(sweep, as_results(trainings, seeds, results.stopped if results else []))
            if len(seeds) == played.num_seeds[CONTROL]:
                break
        assert {each.arm: each.defeats[0].rival for each in results.stopped} == played.stopped
        assert {arm: len(results.seeds_of(arm)) for arm in trainings.arms} == played.num_seeds
        assert {each.arm: each.verdict.word for each in summarize(results).comparisons} == played.words


@pytest.mark.slow
def test_a_race_saves_trainings_and_keeps_the_best():
    """docs/racing.md: with at most ten seeds half of the trainings; here with six."""
    found = rates(ONE_GOOD, draw_sweeps(ONE_GOOD, count=40))
    assert 0.15 <= found.saved <= 0.5
    assert found.best_lost == 0
    assert found.stopped >= 0.3
    assert found.wrongly <= 0.03


@pytest.mark.slow
def test_verdicts_err_no_more_often_than_without_a_race():
    """At some look, sweep by sweep: a race has no look that the same sweep without it has not."""
    scenario = simulated("all equal", "mid", (1, 1, 1), 6)
    sweeps = draw_sweeps(scenario, count=60)
    race = Race(CONTROL, ["sit"], 3, 6, 1.1)
    for each in sweeps:
        plain, raced = play(each, None), play(each, race)
        assert raced.ever <= plain.ever
        assert all(raced.num_seeds[arm] <= plain.num_seeds[arm] for arm in plain.num_seeds)
    found = rates(scenario, sweeps, 1.1)
    assert found.ever_after <= found.ever_before <= 0.1
    assert found.saved >= 0.1, "of equal arms none is as fast as was asked for"
    assert math.isnan(found.best_lost)
    assert found.wrongly <= 0.025 + 2 * math.sqrt(0.025 / 120)


@pytest.mark.parametrize(("num_rivals", "most"), [(1, 0.026), (7, 0.032)])
def test_the_best_of_equal_arms_is_lost_in_one_of_thirty_sweeps_at_most(num_rivals, most):
    assert 0.02 <= bound(10, num_rivals, num_paths=40_000) <= most


def test_recorded_trainings_keep_their_means_and_their_spread():
    scenario = resampled("demo", (0, 1), max_seeds=400)
    assert scenario.speed_ups["0"] == 1
    assert scenario.speed_ups["1"] == pytest.approx(1.39, abs=0.03), "that of the report"
    arms = scenario.draw(np.random.default_rng(0))
    last = {arm: np.log([curve.values[-1] for curve in own]) for arm, own in arms.items()}
    assert np.std(last["1"] - last["0"]) == pytest.approx(0.010, rel=0.25), "of the report: sd of the change"

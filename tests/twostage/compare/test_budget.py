"""Plans: what a time buys, that it fits, that more time never buys less, and what it would see."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twostage.compare.fixtures import COSTS, WORK, scaled
from twostage.analysis.intervals import SEQUENTIAL_LEVELS
from twostage.analysis.planning import power, speed_up_sd
from twostage.compare import budget
from twostage.compare.budget import (
    USED_SHARE,
    Rung,
    affordable,
    choose,
    duration,
    expected_ratio,
    ladder,
    parse_duration,
    plan_lines,
    seconds_of,
    smallest_budget,
)

SIZES = list(budget.SIZES)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5h", 5400)])
def test_a_time_is_written_with_its_unit(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_duration(duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "ten minutes", "-5m", "0s", "1e3s", "1d", "nan", "10m5s"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=f"--budget '{re.escape(text)}' is no time: write 90s, 10m or 2h"):
        parse_duration(text)


def test_evaluation_points_are_those_of_the_budget_version():
    """A quarter, a half, .63, .79 of the steps, and all: docs/sweeps.md."""
    assert Rung("small", 200, 100, 3).at_steps == [50, 100, 126, 158, 200]
    assert Rung("small", 1000, 100, 3).at_steps == [250, 500, 630, 790, 1000]
    for rung in ladder(2000):
        assert rung.at_steps == sorted(set(rung.at_steps))
        assert rung.at_steps[-1] == rung.num_steps


def test_no_number_falls_on_the_ladder():
    rungs = list(ladder(1500))
    for lower, higher in pairwise(rungs):
        assert higher.num_steps >= lower.num_steps
        assert higher.num_steps * higher.num_seeds > lower.num_steps * lower.num_seeds
        assert higher.num_seeds >= lower.num_seeds
        assert higher.num_images >= lower.num_images
        assert SIZES.index(higher.size) >= SIZES.index(lower.size)
    assert {rung.num_seeds for rung in rungs} == set(range(3, max(SEQUENTIAL_LEVELS) + 1))
    assert max(rung.num_images for rung in rungs) == 1500, "there are no more held-out images"


@settings(max_examples=60, deadline=None)
@given(
    slowness=st.floats(0.01, 20),
    budgets=st.tuples(st.floats(100, 1e6), st.floats(100, 1e6)).map(sorted),
    num_workers=st.integers(0, 4),
    timed=st.integers(1, 3),
)
def test_a_plan_fits_and_more_time_never_buys_less(slowness, budgets, num_workers, timed):
    costs, work = scaled(slowness), replace(WORK, num_workers=num_workers)
    costs = replace(costs, training_step={size: costs.training_step[size] for size in SIZES[:timed]})
    chosen = []
    for seconds in budgets:
        if seconds < smallest_budget(work, costs, spent=20):
            with pytest.raises(ValueError, match="is too small here"):
                choose(work, costs, seconds - 10, spent=20)
            continue
        rung = choose(work, costs, seconds, spent=20)
        assert seconds_of(rung, work, costs) <= USED_SHARE * (seconds - 20)
        assert rung.size in costs.training_step
        chosen.append(rung)
    if len(chosen) == 2:
        less, more = chosen
        assert more.num_seeds * more.num_steps >= less.num_seeds * less.num_steps
        assert more.num_images >= less.num_images


def test_too_small_a_budget_is_told_the_smallest_that_would_do():
    with pytest.raises(ValueError, match="--budget 30s is too small here: the smallest comparison takes") as error:
        choose(WORK, COSTS, 30, spent=15)
    named = parse_duration(re.search(r"takes (\w+); give that", str(error.value))[1])
    assert choose(WORK, COSTS, named, spent=15) == next(ladder(WORK.num_held_out))
    assert named < 600


def test_fine_tuned_autoencoders_and_a_single_process_cost_time():
    rung = Rung("small", 400, 200, 5)
    ready = replace(WORK, num_trained=0, num_taken_over=2)
    seconds = [seconds_of(rung, replace(WORK, num_workers=number), COSTS) for number in (0, 1, 2, 4)]
    assert seconds[0] == seconds[1] > seconds[2] == seconds[3]
    tuning = COSTS.tuning_start + 200 * COSTS.tuning_step
    more_often_measured = 4 * (COSTS.diagnosis + COSTS.encoding_start + 2000 * COSTS.encoded_image)
    assert seconds[0] - seconds_of(rung, ready, COSTS) == pytest.approx(5 * tuning + more_often_measured - COSTS.ready)


def test_a_size_is_timed_where_it_may_fit():
    only = replace(COSTS, training_step={"small": 0.02}, sampled_image={"small": 0.04})
    assert not affordable("medium", WORK, only, 300)
    assert affordable("medium", WORK, only, 1e4)
    assert affordable("large", WORK, COSTS, 1e6)


@pytest.mark.parametrize("seconds", [400, 1800, 20000])
def test_the_expected_power_is_that_of_the_test_at_the_last_look(seconds):
    rung = choose(WORK, COSTS, seconds)
    relative = (0.015**2 + 0.012**2 * 1000 / rung.num_images) ** 0.5
    level = SEQUENTIAL_LEVELS[min(most for most in SEQUENTIAL_LEVELS if most >= rung.num_seeds)]
    found = power(expected_ratio(rung), 1.08 * speed_up_sd(0.3, relative), rung.num_seeds, level)
    assert found == pytest.approx(0.9, abs=1e-3)
    plan, about = plan_lines(rung, seconds_of(rung, WORK, COSTS), seconds)
    assert f"{expected_ratio(rung):.2f} times in 9 of 10 cases" in about
    assert f"{relative:.1%} from seed" in about
    assert f"{rung.num_images:,} samples each" in plan

"""Speed-ups of curves whose answer is known."""

# ruff: noqa: RUF001 (the true signs that readers are shown)

import math

import numpy as np
import pytest

from tests.twostage.synthetic_sweep import power_law
from twostage.analysis.speedup import (
    Reach,
    equal_step_change,
    speedup,
    speedup_including,
    speedup_over_samples,
    speedup_over_seeds,
    speedups_along,
    spread_over_seeds,
    steps_to_reach,
)

DOUBLING = [100, 200, 400, 800, 1600]


def curve_with(factor, steps=DOUBLING):
    return steps, power_law(steps, factor=factor)


def ratio_of(value):
    """A speed-up of exactly `value`: both curves fall linearly over log steps."""
    steps = [1, 10_000]
    return speedup((steps, [8, 0]), (steps, [8 - 2 * math.log10(value), -2 * math.log10(value)]), level=4)


def test_interpolation_is_linear_in_the_value_over_log_steps():
    assert steps_to_reach([100, 10_000], [4.0, 2.0], 3.0).steps == pytest.approx(1000)


def test_an_evaluated_value_is_reached_at_exactly_its_step():
    steps, values = curve_with(1.0)
    assert [steps_to_reach(steps, values, value).steps for value in values] == steps


def test_the_running_minimum_ignores_a_bounce():
    steps, bouncing, smooth = [10, 100, 1000, 10_000], [5.0, 3.0, 4.5, 1.0], [5.0, 3.0, 3.0, 1.0]
    for level in (4.0, 3.0, 2.0):
        assert steps_to_reach(steps, bouncing, level) == steps_to_reach(steps, smooth, level)
    assert steps_to_reach(steps, bouncing, 4.0).steps == pytest.approx(10**1.5)


def test_a_level_below_the_curve_is_not_reached_and_not_extrapolated():
    reach = steps_to_reach(*curve_with(1.0), level=1.0)
    assert reach.steps is None
    assert reach == Reach(1600, math.inf)


def test_a_first_point_that_is_already_there_gives_a_bound():
    reach = steps_to_reach([100, 200], [3.0, 2.0], 5.0)
    assert reach.steps == 100
    assert reach.at_first_point


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        ([], [], "one value per step"),
        ([1, 2], [1.0], "one value per step"),
        ([0, 2], [2.0, 1.0], "positive and increasing"),
        ([2, 2], [2.0, 1.0], "positive and increasing"),
        ([1, 2], [2.0, math.nan], "not finite"),
    ],
)
def test_unusable_curves_are_refused(steps, values, message):
    with pytest.raises(ValueError, match=message):
        steps_to_reach(steps, values, 1.0)


@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_power_laws_shifted_by_a_power_of_the_grid_give_that_factor(factor):
    result = speedup(curve_with(1.0), curve_with(factor), level=power_law([600])[0])
    assert result.kind == "value"
    assert result.ratio == pytest.approx(factor, rel=1e-9)


def test_a_factor_between_grid_points_is_off_by_the_interpolation_only():
    assert speedup(curve_with(1.0), curve_with(1.3)).ratio == pytest.approx(1.3, rel=0.02)


def test_equal_curves_have_speed_up_one_at_every_level():
    curve = curve_with(1.0)
    assert speedup(curve, curve).ratio == 1
    assert [result.ratio for _, result in speedups_along(curve, curve)] == [1] * 4


def test_a_curve_that_was_there_at_its_first_point_gives_at_least():
    result = speedup(curve_with(1.0), curve_with(100.0))
    assert (result.kind, result.ratio) == ("at least", 16)
    assert result.is_faster


def test_a_curve_that_never_gets_there_is_not_reached_and_slower():
    result = speedup(curve_with(1.0), curve_with(0.5))
    assert (result.kind, result.ratio) == ("not reached", 1)
    assert result.is_slower


def test_a_shorter_run_that_does_not_get_there_decides_nothing():
    result = speedup(curve_with(1.0), curve_with(1.0, steps=[100, 200]))
    assert (result.kind, result.ratio) == ("not reached", 8)
    assert not result.is_slower
    assert speedup_over_seeds([result]).verdict == "open"


def test_a_control_already_there_gives_at_most():
    result = speedup(([100, 200], [1.0, 2.0]), ([100, 200, 400], [3.0, 2.0, 1.0]))
    assert (result.kind, result.ratio) == ("at most", 0.25)


def test_one_point_each_is_unresolved_or_not_reached():
    assert speedup(([100], [2.0]), ([100], [1.0])).kind == "unresolved"
    assert speedup(([100], [2.0]), ([100], [3.0])).kind == "not reached"


def test_crossing_curves_are_faster_at_one_level_and_slower_at_another():
    control, treated = ([10, 100, 1000], [9.0, 6.0, 1.0]), ([10, 100, 1000], [9.5, 4.0, 3.0])
    early, late = (result for _, result in speedups_along(control, treated))
    assert early.ratio > 1
    assert late.kind == "not reached"


def test_levels_along_the_control_start_after_its_first_point():
    along = speedups_along(curve_with(1.0), curve_with(2.0))
    assert [step for step, _ in along] == [200, 400, 800, 1600]
    assert along[0][1].kind == "at least"
    assert [result.ratio for _, result in along[1:]] == pytest.approx([2, 2, 2])


def test_equal_step_change_uses_shared_steps_and_raw_values():
    change = equal_step_change(([10, 20, 40], [4.0, 2.0, 3.0]), ([20, 40, 80], [1.0, 3.3, 1.0]))
    assert change == pytest.approx({20: -0.5, 40: 0.1})


def test_few_seeds_give_a_range_and_never_a_confidence_interval():
    one, two = spread_over_seeds([0.3]), spread_over_seeds([0.5, 0.1])
    assert (one.kind, one.low, one.high) == ("single seed", 0.3, 0.3)
    assert (two.kind, two.low, two.high, two.mean) == ("range", 0.1, 0.5, pytest.approx(0.3))
    with pytest.raises(ValueError, match="at least one"):
        spread_over_seeds([])


def test_the_bootstrap_interval_is_repeatable_and_shrinks_with_more_seeds():
    few = [0.11, 0.52, 0.33, 0.17, 0.39, 0.28, 0.41]
    many = few * 16
    assert spread_over_seeds(few, seed=3) == spread_over_seeds(few, seed=3)
    assert spread_over_seeds(few, seed=3) != spread_over_seeds(few, seed=4)
    wide, narrow = spread_over_seeds(few), spread_over_seeds(many)
    assert narrow.high - narrow.low == pytest.approx((wide.high - wide.low) / 4, rel=0.2)
    assert narrow.low < narrow.mean < narrow.high


def test_the_bootstrap_interval_of_many_seeds_is_the_normal_one():
    values = [0.0, 1.0] * 200
    spread = spread_over_seeds(values)
    assert spread.high - spread.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.05)


def test_three_values_give_a_geometric_mean_with_an_interval():
    spread = speedup_over_seeds([ratio_of(2.0), ratio_of(2.0), ratio_of(2.0)])
    assert (spread.kind, spread.verdict, spread.text) == ("confidence interval", "faster", "2.00× to 2.00×")
    assert speedup_over_seeds([ratio_of(r) for r in (0.5, 2.0, 4.0, 0.25)]).mean == pytest.approx(1)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [((1.2, 2.0), "faster"), ((0.9, 2.0), "open"), ((0.5, 0.9), "slower"), ((0.8, 1.1, 1.0, 1.3), "open")],
)
def test_the_verdict_is_no_stronger_than_the_seeds_allow(ratios, verdict):
    assert speedup_over_seeds([ratio_of(ratio) for ratio in ratios]).verdict == verdict


def test_a_seed_that_is_not_reached_forbids_a_mean_and_opens_the_range_below():
    slow = speedup(curve_with(1.0), curve_with(0.5))
    spread = speedup_over_seeds([ratio_of(2.0), slow, ratio_of(3.0)])
    assert spread.mean is None
    assert (spread.kind, spread.verdict, spread.text) == ("range", "open", "< 1.00× to 3.00×")


def test_a_lower_bound_stays_one_in_the_interval():
    bound = speedup(curve_with(1.0), curve_with(100.0))
    spread = speedup_over_seeds([bound, ratio_of(2.0), ratio_of(3.0)])
    assert spread.has_lower_bounds
    assert spread.text.split(" to ")[1].startswith("≥ ")


def test_seeds_of_which_nothing_is_known_establish_nothing():
    unresolved = speedup(([100], [2.0]), ([100], [1.0]))
    assert speedup_over_seeds([unresolved]).text == "not resolved"
    assert speedup_over_seeds([unresolved, ratio_of(2.0)]).verdict == "open"


def test_the_cost_of_fine_tuning_is_added_to_the_arm_alone():
    control, treated = curve_with(1.0), curve_with(2.0)
    assert speedup(control, treated).ratio == pytest.approx(2)  # 1600 to 800
    assert speedup_including(control, treated, 800).ratio == pytest.approx(1)
    assert speedup_including(control, treated, 2400).is_slower
    assert speedup_including(control, treated, 0).ratio == speedup(control, treated).ratio


def test_bounds_stay_bounds_with_a_cost():
    at_first = speedup_including(curve_with(1.0), curve_with(100.0), 100)
    assert (at_first.kind, at_first.ratio) == ("at least", 8)  # 1600 to at most 100 + 100
    never = speedup_including(curve_with(1.0), curve_with(0.5), 1600)
    assert (never.kind, never.ratio) == ("not reached", 0.5)  # 1600 to more than 1600 + 1600


def test_noise_on_a_power_law_moves_the_speed_up_little_and_the_interval_holds_the_truth():
    draw = np.random.default_rng(0)
    steps = [100 * 2**i for i in range(8)]

    def noisy(factor):
        return steps, [value * (1 + 0.01 * draw.normal()) for value in power_law(steps, factor=factor)]

    found = [speedup(noisy(1.0), noisy(2.0)) for _ in range(40)]
    spread = speedup_over_seeds(found)
    assert spread.low < 2 < spread.high
    assert spread.verdict == "faster"
    samples = speedup_over_samples(found)
    assert samples.low < 2 < samples.high
    assert samples.low <= spread.low
    assert samples.high >= spread.high
    assert samples.kind == "interval over samples"


def test_an_interval_over_samples_keeps_bounds_and_the_unknown():
    bound, slow = speedup(curve_with(1.0), curve_with(100.0)), speedup(curve_with(1.0), curve_with(0.5))
    assert speedup_over_samples([slow, ratio_of(2.0), bound]).text == "< 1.00× to ≥ 16.00×"
    assert speedup_over_samples([slow, ratio_of(2.0), bound]).verdict == "open"
    unresolved = speedup(([100], [2.0]), ([100], [1.0]))
    assert speedup_over_samples([unresolved, ratio_of(2.0)]).text == "not resolved"
    with pytest.raises(ValueError, match="at least one"):
        speedup_over_samples([])

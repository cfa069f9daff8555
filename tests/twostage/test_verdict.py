"""From curves to verdicts: worked examples to six digits, symmetry, bounds, and what no number of seeds may decide."""

import math
import re

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from tests.twostage.synthetic_sweep import METRIC, changed, only, with_metric
from twostage.analysis.curves import LearningCurve, crossing, end_slope
from twostage.analysis.draws import draws
from twostage.analysis.intervals import SEQUENTIAL_LEVELS, holm, interval_over_seeds, level_of_look, quantile
from twostage.analysis.pairs import SpeedUp, changes_at_equal_steps, speed_up
from twostage.analysis.planning import power, ratio_seen, retraining_move, seeds_for, seeds_needed, speed_up_sd
from twostage.analysis.verdict import verdict_over_seeds
from twostage.analysis.words import sentence, short_sentence

SHAPES = ((250, 500, 1000), (2079, 1202, 991), (2027, 1153, 915))
POWER_LAW = tuple(0.3 + 0.7 * (s * np.array([62.5, 125, 250, 500, 1000]) / 1000) ** -0.5 for s in (1, 1.25))
PER_SEED = [
    (*SHAPES, 0.338444, 1.402763, "value"),
    (SHAPES[0], SHAPES[2], SHAPES[1], -0.338444, 0.712879, "value"),
    ((100, 200, 400), (9, 5, 3), (9, 5, 3), 0, 1, "value"),
    ((100, 200, 400, 800), (80, 40, 20, 10), (40, 20, 10, 5), 0.693147, 2, "value"),
    ((100, 200), (8, 4), (8, 2), 0.346574, 1.414214, "value"),
    ((100, 200, 400, 800), (10, 6, 6.5, 5), (9, 5, 5.2, 4), 1.386294, 4, "value"),
    ((100, 200, 400), (9, 5, 3), (2, 1.5, 1), 1.386294, 4, "at least"),
    ((100, 200, 400), (2, 1.5, 1), (9, 5, 3), -1.386294, 0.25, "at most"),
    ((62.5, 125, 250, 500, 1000), *POWER_LAW, 0.222385, 1.249053, "value"),
]
STEPS = (125, 177, 250, 354, 500, 707, 1000)
CONTROL = (
    (2890, 2440, 2095, 1812, 1597, 1430, 1301),
    (2921, 2455, 2070, 1835, 1612, 1418, 1312),
    (2875, 2462, 2110, 1801, 1588, 1441, 1294),
)
TREATED = (
    (2651, 2268, 1950, 1690, 1511, 1352, 1240),
    (2704, 2291, 1943, 1722, 1498, 1361, 1229),
    (2668, 2240, 1969, 1675, 1520, 1349, 1251),
)


def pair(steps, control, treated):
    return LearningCurve(steps, control), LearningCurve(steps, treated)


def valued(ratio, kind="value"):
    """A speed-up of this ratio, as a seed has it."""
    return SpeedUp(1.0, ratio, 1.0, kind == "at most", kind == "at least", kind, math.log(ratio), ratio, False)


def verdict_of(ratios, changes=None, **options):
    kinds = [ratio if isinstance(ratio, SpeedUp) else valued(ratio) for ratio in ratios]
    changes = [-0.05 * math.log(each.ratio) for each in kinds] if changes is None else changes
    return verdict_over_seeds(dict(enumerate(kinds)), dict(enumerate(changes)), **options)


def whole_comparison(control=CONTROL, treated=TREATED, **options):
    pairs = [pair(STEPS, *values) for values in zip(control, treated, strict=True)]
    speed_ups = {seed: speed_up(*each) for seed, each in enumerate(pairs)}
    changes = {seed: changes_at_equal_steps(*each)[1000] for seed, each in enumerate(pairs)}
    return verdict_over_seeds(speed_ups, changes, **options)


@pytest.mark.parametrize(("steps", "control", "treated", "log_ratio", "ratio", "kind"), PER_SEED)
def test_one_seed(steps, control, treated, log_ratio, ratio, kind):
    result = speed_up(*pair(steps, control, treated))
    assert (result.log_ratio, result.ratio) == (pytest.approx(log_ratio, abs=1e-6), pytest.approx(ratio, abs=1e-6))
    assert result.kind == kind


@pytest.mark.parametrize(("steps", "control", "treated"), [case[:3] for case in PER_SEED])
def test_swapped_arms_mirror_every_seed(steps, control, treated):
    forth, back = (speed_up(*pair(steps, *values)) for values in ((control, treated), (treated, control)))
    assert forth.log_ratio == -back.log_ratio
    assert forth.level == back.level


def test_the_steps_to_a_level_are_those_of_a_monotone_cubic():
    control, treated = pair(*SHAPES)
    assert crossing(treated, 991).steps == pytest.approx(712.8788, abs=1e-4)
    slopes = PchipInterpolator(np.log(SHAPES[0]), np.log(SHAPES[2])).derivative()(np.log(SHAPES[0]))
    assert slopes == pytest.approx([-1.054156, -0.473190, -0.093347], abs=1e-6)
    assert crossing(control, 991).steps == pytest.approx(1000, rel=1e-12)
    assert crossing(treated, 991).coarse
    assert not crossing(LearningCurve(STEPS, TREATED[0]), 1301).coarse


def test_a_level_that_rounding_alone_tells_from_a_value_is_reached_there():
    """Below it by the last bit, a value's logarithm may be equal, and there was no root to find."""
    for values in np.exp(np.random.default_rng(0).normal(6, 0.3, (100, 4))):
        falling = np.sort(values)[::-1]
        control, other = (LearningCurve((1, 2, 3, 4), each) for each in (falling, np.nextafter(falling, 0)))
        found = speed_up(control, other)
        assert found.log_ratio == pytest.approx(0, abs=1e-9)
        assert speed_up(other, control).log_ratio == -found.log_ratio


def test_a_level_on_a_plateau_is_reached_where_the_plateau_begins():
    curve = LearningCurve((100, 200, 400, 800), (9, 5, 5, 5))
    assert crossing(curve, 5).steps == pytest.approx(200)
    assert crossing(curve, 9).at_first_point


def test_values_that_may_be_negative_take_a_straight_line_in_the_value():
    control, treated = pair((100, 200, 400), (3, 1, -1), (3, 0, -1))
    result = speed_up(control, treated, level=0.5, in_logs=False)
    assert result.control_steps == pytest.approx(200 * 2**0.25)
    assert result.treated_steps == pytest.approx(100 * 2 ** (2.5 / 3))
    assert changes_at_equal_steps(control, treated, in_logs=False) == {100: 0, 200: -1, 400: 0}


def test_a_cost_before_the_first_step_is_the_treated_arm_s():
    control, treated = pair((100, 200, 400, 800), (80, 40, 20, 10), (40, 20, 10, 5))
    assert speed_up(control, treated, cost=100).ratio == pytest.approx(800 / 500)
    bound = speed_up(*pair((100, 200, 400), (9, 5, 3), (2, 1.5, 1)), cost=60)
    assert (bound.kind, bound.ratio) == ("at least", pytest.approx(400 / 160))


def test_neither_arm_s_steps_are_known_from_one_point():
    result = speed_up(*pair((100,), (8,), (4,)))
    assert (result.kind, result.log_ratio, result.ratio) == ("unresolved", None, None)


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        ((), (), "one value per step"),
        ((1, 2), (1,), "one value per step"),
        ((2, 1), (1, 2), "positive and increasing"),
        ((0, 1), (1, 2), "positive and increasing"),
        ((1, 2), (1, math.nan), "not finite"),
        ((1, math.inf), (1, 2), "not finite"),
    ],
)
def test_curves_that_are_none_are_refused(steps, values, message):
    with pytest.raises(ValueError, match=message):
        LearningCurve(steps, values)


@pytest.mark.parametrize(
    ("ratios", "mean", "low", "high", "sd", "p"),
    [
        ((1.16, 1.27, 1.33), 1.251328, 1.052721, 1.487404, 0.069572, 0.030630),
        ((1.24, 1.21, 1.13), 1.192418, 1.058003, 1.343910, 0.048146, 0.024052),
        ((1.12, 1.06, 1.10), 1.093047, 1.019420, 1.171992, 0.028072, 0.031620),
        ((1.2, 1.25), 1.224745, 0.944959, 1.587370, None, None),
        ((1.2, 0.9), 1.039230, 0.167095, 6.463391, None, None),
        ((1.3, 1.1, 0.95, 1.2, 1.15), 1.133934, 0.981163, 1.310492, None, None),
        ((1.02, 1.10, 1.15), 1.088672, 0.936417, 1.265682, None, None),
    ],
)
def test_the_interval_of_several_seeds(ratios, mean, low, high, sd, p):
    verdict = verdict_of(ratios)
    assert (verdict.ratio, verdict.low, verdict.high) == pytest.approx((mean, low, high), abs=1e-6)
    if sd is not None:
        assert verdict.speed_up.sd == pytest.approx(sd, abs=1e-6)
        assert verdict.speed_up.p == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("ratios", "needed"),
    [((1.2, 1.25), 3), ((1.2, 0.9), None), ((1.3, 1.1, 0.95, 1.2, 1.15), 9), ((1.02, 1.10, 1.15), 7)],
)
def test_seeds_that_would_probably_decide(ratios, needed):
    verdict = verdict_of(ratios)
    assert verdict.word == "undecided"
    assert verdict.seeds_needed == needed
    assert verdict.hidden == (needed is None)


def test_a_whole_comparison_and_its_mirror_image():
    verdict = whole_comparison()
    assert verdict.word == "faster"
    assert (verdict.ratio, verdict.low, verdict.high) == pytest.approx((1.221862, 1.159247, 1.287860), abs=1e-6)
    percent = [100 * math.expm1(value) for value in (verdict.change.mean, verdict.change.low, verdict.change.high)]
    assert percent == pytest.approx([-4.7872, -8.4528, -0.9749], abs=1e-4)
    mirrored = whole_comparison(TREATED, CONTROL)
    assert mirrored.word == "slower"
    assert mirrored.speed_up.mean == -verdict.speed_up.mean
    assert (mirrored.low, mirrored.high) == pytest.approx((1 / verdict.high, 1 / verdict.low))


def test_the_parts_of_the_whole_comparison():
    pairs = [pair(STEPS, *values) for values in zip(CONTROL, TREATED, strict=True)]
    assert [speed_up(*each).log_ratio for each in pairs] == pytest.approx([0.203717, 0.219684, 0.177728], abs=1e-6)
    changes = [changes_at_equal_steps(*each)[1000] for each in pairs]
    assert changes == pytest.approx([-0.048022, -0.065352, -0.033795], abs=1e-6)


def test_no_verdict_without_the_second_measure():
    faster = verdict_of((1.24, 1.21, 1.13), changes=(-0.06, -0.13, 0.006))
    assert (faster.word, faster.reason) == ("undecided", "measures disagree")
    assert faster.seeds_needed > 3
    assert verdict_of((1.24, 1.21, 1.13), changes=(-0.06, -0.05, -0.06)).word == "faster"


def test_where_steps_are_not_what_is_counted_the_speed_up_decides_alone():
    speed_ups = {seed: valued(ratio) for seed, ratio in enumerate((1.24, 1.21, 1.13))}
    assert verdict_over_seeds(speed_ups, None).word == "faster"
    bounds = {seed: valued(ratio, "at least") for seed, ratio in enumerate((1.24, 1.21, 1.13))}
    verdict = verdict_over_seeds(bounds, None)
    assert (verdict.word, verdict.reason, verdict.low) == ("undecided", "bounds", None)


def test_bounds_have_no_interval_and_the_change_decides():
    verdict = verdict_of((valued(4.0, "at least"),) * 3, changes=(-0.2, -0.25, -0.22))
    assert (verdict.word, verdict.kind, verdict.ratio) == ("faster", "at least", pytest.approx(4))
    assert (verdict.low, verdict.high) == (None, None)
    slower = verdict_of((valued(0.25, "at most"), 0.5), changes=(0.2, 0.21))
    assert (slower.word, slower.kind) == ("slower", "at most")
    mixed = verdict_of((valued(4.0, "at least"), valued(0.25, "at most")), changes=(-0.2, 0.2))
    assert (mixed.word, mixed.kind, mixed.ratio) == ("undecided", "mixed", None)


@pytest.mark.parametrize(("ratio", "kind", "change"), [(2.4, "at least", 0.8), (0.4, "at most", -0.8)])
def test_a_bound_that_says_the_opposite_of_the_change_leaves_it_open(ratio, kind, change):
    """An arm that is better at its first point than the control ever gets, and ends worse: nothing is decided."""
    verdict = verdict_of((valued(ratio, kind),) * 3, changes=(change, 1.01 * change, 0.99 * change))
    found = (verdict.word, verdict.reason, verdict.seeds_needed, verdict.hidden)
    assert found == ("undecided", "measures disagree", None, False)
    assert short_sentence(verdict) == "undecided: steps and the change after equally many steps disagree"


def test_a_bound_on_the_other_side_of_1_gives_a_decided_verdict_no_size():
    slower = verdict_of((valued(1.2, "at most"),) * 3, changes=(0.2, 0.21, 0.19))
    assert short_sentence(slower) == "slower, by how much the evaluated steps do not tell"


@pytest.mark.parametrize("ratio", [1.5, 0.5])
def test_one_seed_decides_nothing(ratio):
    verdict = verdict_of((ratio,))
    assert (verdict.word, verdict.reason, verdict.low, verdict.p) == ("undecided", "one seed", None, None)
    assert verdict.ratio == pytest.approx(ratio)


def test_seeds_with_identical_numbers_decide_nothing():
    verdict = verdict_of((2, 2, 2))
    assert (verdict.word, verdict.reason) == ("undecided", "identical seeds")
    assert (verdict.ratio, verdict.low, verdict.high) == (pytest.approx(2), None, None)
    assert verdict_of((2, 2.1, 2.2), changes=(-0.1, -0.1, -0.1)).reason == "identical seeds"


def test_a_seed_may_not_be_dropped_from_a_verdict():
    verdict = verdict_of((1.24, 1.21, 1.13), missing_seeds=(3,))
    assert (verdict.word, verdict.reason, verdict.missing_seeds) == ("undecided", "missing seeds", [3])
    assert verdict.low == pytest.approx(1.058003, abs=1e-6)


def diverged(curve, point):
    """Seed 3 of the equivariant arm has no value at its last step."""
    lost = (curve.arm, curve.seed, point.num_steps) == ("equivariant", 3, 1600)
    return math.nan if lost else point.metrics[METRIC]


def test_numbers_beside_a_diverged_seed_are_those_of_the_others():
    factors = (1.60, 1.65, 1.62)
    alone, beside = only(changed(factors)), only(with_metric(changed((*factors, 1.05)), diverged))
    assert (beside.verdict.word, beside.verdict.missing_seeds) == ("undecided", [3])
    for name in ("ratio", "low", "high", "speed_up", "change", "num_seeds"):
        assert getattr(beside.verdict, name) == getattr(alone.verdict, name), name
    assert beside.equal_steps == alone.equal_steps
    assert [each.seed for each in beside.per_seed] == [0, 1, 2, 3], "it is shown all the same"
    assert draws(beside) == draws(alone)
    assert f"The other seeds: {alone.verdict.ratio:.2f} times" in sentence(beside, "FD")


def test_no_pair_with_a_step_in_common_is_undecided_and_not_the_end_of_a_report():
    def never_both(curve, point):
        return point.metrics[METRIC] if point.num_steps == (100 if curve.arm == "control" else 200) else math.nan

    comparison = only(with_metric(changed((1.2, 1.3)), never_both))
    verdict = comparison.verdict
    assert (verdict.word, verdict.missing_seeds, verdict.num_seeds, verdict.ratio) == ("undecided", [0, 1], 0, None)
    assert sentence(comparison, "FD").startswith("Undecided: seed 0, 1 has no value at the last step")


def test_more_seeds_are_no_remedy_where_the_two_quantities_point_to_different_sides():
    """An arm that is ahead all along and rises at its end: more seeds make both answers surer."""
    verdict = verdict_of((2.9, 3.0, 3.1), changes=(0.07, 0.075, 0.066))
    assert (verdict.word, verdict.reason, verdict.seeds_needed, verdict.hidden) == (
        "undecided",
        "measures disagree",
        None,
        False,
    )


def test_no_seed_is_no_verdict():
    with pytest.raises(ValueError, match="at least one seed"):
        verdict_over_seeds({}, {})
    with pytest.raises(ValueError, match="at least one value"):
        interval_over_seeds([])


@pytest.mark.parametrize(
    ("num_seeds", "two_sided", "power_quantile", "sequential"),
    [
        (2, 12.706205, 1.376382, None),
        (3, 4.302653, 1.060660, 9.008200),
        (5, 2.776445, 0.940965, 4.356001),
        (10, 2.262157, 0.883404, 3.131112),
        (20, 2.093024, 0.860951, None),
    ],
)
def test_quantiles(num_seeds, two_sided, power_quantile, sequential):
    assert quantile(0.975, num_seeds) == pytest.approx(two_sided, abs=1e-6)
    assert quantile(0.80, num_seeds) == pytest.approx(power_quantile, abs=1e-6)
    if sequential:
        assert quantile(1 - level_of_look(10) / 2, num_seeds) == pytest.approx(sequential, abs=1e-6)


def test_looking_after_every_seed_has_its_price():
    ratios = (1.16, 1.27, 1.33)
    assert verdict_of(ratios).low > 1
    sequential = verdict_of(ratios, level=level_of_look(10))
    assert sequential.low < 1
    assert sequential.word == "undecided"
    assert level_of_look(None) == 0.05
    assert level_of_look(9) == SEQUENTIAL_LEVELS[10]
    for number in (2, 21):
        with pytest.raises(ValueError, match=f"at most {number} seeds"):
            level_of_look(number)


def test_several_comparisons_are_claimed_together_by_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize(("effect", "count"), [(0.5, None), (0.75, 16), (1, 10), (1.5, 6), (2, 5), (3, 4), (4, 3)])
def test_seeds_needed_by_effect_over_spread(effect, count):
    interval = interval_over_seeds([effect - 1 / math.sqrt(2), effect + 1 / math.sqrt(2)])
    assert interval.sd == pytest.approx(1)
    assert seeds_needed([interval]) == count


@pytest.mark.parametrize(
    ("slope", "sd", "seeds"),
    [
        (0.5, 0.047, (10, 5, 3, 3)),
        (0.3, 0.067, (17, 7, 3, 3)),
        (0.2, 0.094, (32, 10, 4, 3)),
        (0.1, 0.18, (110, 31, 8, 4)),
    ],
)
def test_seeds_to_plan_with(slope, sd, seeds):
    planned = speed_up_sd(slope)
    assert planned == pytest.approx(sd, abs=0.001 if slope > 0.1 else 0.005)
    assert [seeds_for(ratio, planned) for ratio in (1.05, 1.1, 1.25, 1.5)] == list(seeds)
    assert power(1.0, planned, 5) == pytest.approx(0.025, abs=1e-3)


@pytest.mark.parametrize(("sd", "count", "level"), [(0.05, 3, 0.0229), (0.2, 6, 0.0187), (0.1, 20, 0.0077)])
def test_the_ratio_that_is_seen_in_nine_of_ten_cases(sd, count, level):
    ratio = ratio_seen(sd, count, level)
    assert power(ratio, sd, count, level) == pytest.approx(0.9, abs=1e-3)
    assert ratio_seen(sd, count + 1, level) < ratio < ratio_seen(1.5 * sd, count, level)
    assert ratio_seen(sd, count, level, share=0.5) < ratio


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (verdict_of((1.16, 1.27, 1.33)), r"faster by 1\.25 times \(1\.05 to 1\.49\)"),
        (verdict_of((1 / 1.16, 1 / 1.27, 1 / 1.33)), r"slower by 1\.25 times \(1\.05 to 1\.49\)"),
        (verdict_of((1.2, 1.25)), "undecided: 1 more seed would probably decide"),
        (verdict_of((1.2, 0.9, 1.01)), "undecided: more than 20 seeds would be needed"),
        (verdict_of((1.2,)), "undecided: one training per arm"),
        (verdict_of((1.2, 1.2), (-0.1, -0.1)), "undecided: the seeds gave identical numbers"),
        (verdict_of((1.2, 1.25), missing_seeds=(4,)), "undecided: seed 4 has no value at the last step"),
        (verdict_of((valued(4, "at least"), 3, 3.5), (-0.1, -0.11, -0.12)), r"faster by at least 3\.48 times"),
        (verdict_of((valued(4, "at least"), valued(0.5, "at most")), (-0.1, -0.11)), "faster, by how much .*not tell"),
    ],
)
def test_a_verdict_in_one_phrase(verdict, words):
    assert re.fullmatch(words, short_sentence(verdict))


def test_how_far_one_seed_typically_moves():
    control = LearningCurve((500, 1000), (1202, 991))
    slope = end_slope(control)
    assert slope == pytest.approx(math.log(1202 / 991) / math.log(2))
    assert retraining_move(slope) == pytest.approx(2 * math.sqrt(2) * 0.0126 / slope)
    assert end_slope(LearningCurve((1,), (2,))) is None

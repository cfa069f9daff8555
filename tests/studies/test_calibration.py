"""The calibration study's arithmetic on curves whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest

from studies.calibration import SIZE, noise_floor, pairs_of, planted_ratio, rates, tables
from tests.twostage.synthetic_sweep import synthetic_results
from twostage.analysis.curves import LearningCurve

STEPS = (100, 141, 200, 283, 400, 566, 800)
SPREAD, SHARED = 0.02, 0.03
SETS = 150  # independent ones: triples of one set are not


def equal_pairs(num_pairs: int, seed: int = 0):
    """Power laws of exponent .4; a pair shares one part of its offset, each training has another of its own."""
    draw = np.random.default_rng(seed)
    pairs = []
    for _ in range(num_pairs):
        common = draw.normal(0, SHARED)
        values = [np.exp(common + draw.normal(0, SPREAD) - 0.4 * np.log(STEPS)) for _ in range(2)]
        pairs.append(tuple(LearningCurve(STEPS, tuple(each)) for each in values))
    return pairs


def test_equal_arms_are_told_apart_as_rarely_as_promised():
    found = [rates(equal_pairs(SIZE, seed)) for seed in range(SETS)]
    assert {each.num_comparisons for each in found} == {4}
    assert rates(equal_pairs(5)).num_comparisons == 4 * 10
    assert {each.planted for each in found} == {1.0}
    assert np.mean([each.faster + each.slower for each in found]) == pytest.approx(0.05, abs=0.025)
    assert np.mean([each.covered for each in found]) == pytest.approx(0.95, abs=0.025)


def test_no_naming_of_the_arms_is_preferred():
    pairs = equal_pairs(5)
    swapped = [pair[::-1] for pair in pairs]
    for shift in (1, 2):
        assert rates(pairs, shift) == rates(swapped, shift), "all namings are counted"
    both = rates(pairs), rates(swapped)
    assert both[0].faster + both[0].slower == both[1].faster + both[1].slower


@pytest.mark.parametrize(("shift", "ratio"), [(1, 2**0.5), (2, 2.0)])
def test_a_planted_speed_up_is_found(shift, ratio):
    assert planted_ratio(STEPS, shift) == pytest.approx(ratio, rel=1e-3)
    found = [rates(equal_pairs(SIZE, seed), shift) for seed in range(SETS)]
    assert {each.num_comparisons for each in found} == {8}
    assert np.mean([each.covered for each in found]) == pytest.approx(0.95, abs=0.03)
    assert np.mean([each.faster for each in found]) > 0.9
    assert all(each.slower == 0 for each in found)


def test_the_noise_floor_is_that_of_the_curves():
    floor = noise_floor(equal_pairs(1500))
    assert floor.log_change == pytest.approx(SPREAD * 2**0.5, rel=0.05)
    assert floor.log_speed_up == pytest.approx(SPREAD * 2**0.5 / 0.4, rel=0.05)
    assert floor.log_distance == pytest.approx(np.hypot(SPREAD, SHARED), rel=0.05)
    assert floor.correlation == pytest.approx(SHARED**2 / (SHARED**2 + SPREAD**2), abs=0.04)
    assert floor.slope == pytest.approx(0.4, abs=1e-9)


def test_what_cannot_be_calibrated_on_is_said():
    results = synthetic_results(SIZE)
    assert len(pairs_of(results)) == SIZE
    assert tables(results).startswith("| planted speed-up |")
    with pytest.raises(ValueError, match="2 pairs; a comparison takes 3"):
        pairs_of(synthetic_results(2))
    with pytest.raises(ValueError, match="1 arms, 1 generators; take two and one"):
        pairs_of(replace(results, arms=results.arms[:1]))
    with pytest.raises(ValueError, match="not evenly spaced"):
        planted_ratio((100, 200, 300, 400), 1)
    with pytest.raises(ValueError, match="cannot be relabelled by 2"):
        planted_ratio((100, 200, 400), 2)

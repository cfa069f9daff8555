"""Ranking of predictors: what is known of made-up spaces is found, and chance is not taken for skill."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from studies.arms_forecast import correlations
from studies.arms_forecast import tables as arms_tables
from studies.forecast import (
    Spaces,
    available_to_compare,
    bootstrap,
    ceiling,
    collect,
    gauge_of,
    interval,
    rank,
    rank_correlation,
    right_orders,
    tables,
)

QUALITY = np.random.default_rng(0).normal(size=40)
FAMILIES = {f"family {start}": list(range(10 * start, 10 * start + 10)) for start in range(4)}


def spaces_of(predictors, is_open=None, by_seed=None):
    rows = np.array(list(predictors.values()))
    return Spaces(
        names=[f"space {row}" for row in range(40)],
        families=FAMILIES,
        quality=QUALITY,
        by_seed=np.stack([QUALITY, QUALITY]) if by_seed is None else by_seed,
        predictors=rows,
        quantities=list(predictors),
        is_open=np.array([is_open == name for name in predictors]),
    )


def noise(seed, size=1.0):
    return size * np.random.default_rng(seed).normal(size=40)


def test_the_correlation_is_spearman_s_and_0_of_a_constant():
    first, second = np.round(QUALITY, 1), np.round(QUALITY + noise(1), 1)  # with ties
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert rank_correlation(np.ones(5), np.arange(5.0)) == 0


def test_gaps_between_families_do_not_count():
    family = np.repeat(np.arange(4.0), 10)
    within = rank(spaces_of({"the family": family, "the quality": QUALITY + 100 * family})).within
    assert within.tolist() == pytest.approx([0, 1])


def test_the_best_one_is_chosen_by_the_other_families_alone():
    lucky = noise(3)
    own = FAMILIES["family 2"]
    lucky[own] = QUALITY[own]  # perfect in one family, noise in the others
    found = rank(spaces_of({"good": QUALITY + noise(2, 0.7), "lucky in one": lucky}))
    assert found.choices == dict.fromkeys(FAMILIES, ("good", 1.0))
    assert found.chosen == pytest.approx(found.within[0])


def test_a_sign_left_open_is_that_of_the_other_families():
    upside_down = -QUALITY
    assert rank(spaces_of({"x": upside_down}, is_open="x")).within == pytest.approx(1)
    assert rank(spaces_of({"x": upside_down})).within == pytest.approx(-1), "a published one is not turned"
    mixed = upside_down.copy()
    mixed[FAMILIES["family 0"]] *= -1
    assert rank(spaces_of({"x": mixed}, is_open="x")).within == pytest.approx((3 - 1) / 4)


def test_intervals_of_skill_exclude_0_and_those_of_noise_do_not():
    predictors = {"skill": QUALITY + noise(4, 0.8), "chance": noise(5)}
    draws = bootstrap(spaces_of(predictors), num_draws=200)
    assert interval(draws, lambda draw: draw.within[0])[0] > 0.3
    low, high = interval(draws, lambda draw: draw.within[1])
    assert low < 0 < high
    assert interval(draws, lambda draw: draw.within[0] - draw.within[1])[0] > 0, "in the same draws"


def test_a_choice_among_many_numbers_of_chance_is_worth_nothing():
    """The best of 30 looks like .3 where it was chosen, and is 0 in the family that it was not chosen on."""
    predictors = {f"chance {seed}": noise(100 + seed) for seed in range(30)}
    found = rank(spaces_of(predictors))
    assert found.within.max() > 0.25
    assert abs(found.chosen) < 0.25


def test_two_halves_of_the_truth_are_better_together():
    halves = {f"half {seed}": QUALITY + noise(seed, 1.0) for seed in (6, 7)}
    found = rank(spaces_of(halves))
    assert found.combined[2] > found.chosen
    assert ceiling(spaces_of(halves, by_seed=np.stack([QUALITY + noise(8), QUALITY + noise(9)]))) < 0.9


def test_pairs_that_lie_far_apart_are_ordered_right_more_often():
    spaces = spaces_of({"skill": QUALITY + noise(10, 0.6)})
    pairs = sorted(right_orders(spaces, dict.fromkeys(FAMILIES, ("skill", 1.0))))
    assert len(pairs) == 4 * 45
    near, far = (np.mean([right for _, right in part]) for part in (pairs[:60], pairs[120:]))
    assert far > near + 0.15


def test_pairs_are_ordered_with_the_sign_of_the_other_families():
    spaces = spaces_of({"x": -QUALITY}, is_open="x")
    assert all(right for _, right in right_orders(spaces, rank(spaces).choices))


def test_the_gauge_is_the_best_that_compare_can_ask_for():
    """Labels and masks are not at hand there, so the probe, however good, is left to the study."""
    skill, spread = QUALITY + noise(10, 0.6), 2.5
    spaces = spaces_of({"probe/flat": QUALITY, "slope/slope": noise(11), "dimension/mle": spread * skill})
    gauge = gauge_of(spaces)
    assert gauge.quantity == "dimension/mle"
    assert gauge.better == "lower"
    of_families = [np.std(spread * skill[rows], ddof=1) for rows in FAMILIES.values()]
    assert gauge.spread == pytest.approx(np.mean(of_families), rel=1e-3)
    assert [record.pairs for record in gauge.records] == [60, 60, 60]
    shares = [record.share for record in gauge.records]
    assert shares[2] > shares[0] + 0.15
    chosen = rank(available_to_compare(spaces)).choices
    assert sum(record.right for record in gauge.records) == sum(right for _, right in right_orders(spaces, chosen))


def test_the_gauge_of_an_open_direction_is_the_one_that_it_has():
    assert gauge_of(spaces_of({"rank/latents": -QUALITY}, is_open="rank/latents")).better == "higher"
    assert gauge_of(spaces_of({"rank/latents": QUALITY}, is_open="rank/latents")).better == "lower"


def lines():
    return [
        {
            "arm": f"{family}-{number}",
            "seed": seed,
            "family": family,
            "fd": {"600": float(np.exp(number + 0.01 * seed))},
            "predictors": {"viv/ratio": number + 0.1 * seed, "srss/far": -float(number)},
        }
        for family in ("a", "b")
        for number in range(5)
        for seed in (0, 1)
    ]


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr("studies.forecast.DIRECTIONS", {"viv/ratio": "lower", "srss/far": "higher"})


def test_lines_become_means_over_seeds(known):
    spaces = collect(lines())
    assert spaces.families == {"a": [0, 1, 2, 3, 4], "b": [5, 6, 7, 8, 9]}
    assert spaces.quality[:3] == pytest.approx([0.005, 1.005, 2.005])
    assert spaces.predictors[:, 1].tolist() == pytest.approx([1.05, 1.0]), "higher is better: turned"
    assert "| the best one | 1.00 | 1.00 to 1.00 |" in tables(spaces)


def test_a_space_that_lacks_something_is_named(known):
    with pytest.raises(ValueError, match="b-4 lacks seed 1: every space is compared"):
        collect(lines()[:-1])
    fewer = lines()
    del fewer[0]["predictors"]["viv/ratio"]
    with pytest.raises(ValueError, match="a-0 lacks viv/ratio"):
        collect(fewer)


def test_arms_of_one_start_are_ranked_by_each_predictor():
    spaces = replace(spaces_of({"skill": QUALITY + noise(13, 0.5), "chance": noise(14)}), families={"all": range(40)})
    found = correlations(spaces, num_draws=200)
    assert found["skill"][0] == pytest.approx(spearmanr(spaces.predictors[0], QUALITY).statistic)
    assert 0.4 < found["skill"][1] < found["skill"][0] < found["skill"][2] < 1
    assert found["chance"][1] < 0 < found["chance"][2]
    rows = arms_tables(spaces).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:4]] == ["skill", "chance"]
    assert rows[4].endswith("| 1.00 |  |"), "both seeds are the same"

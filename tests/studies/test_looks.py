"""Error rates of looks, over few simulated sweeps: what the docs say of many must not be far off."""

import numpy as np

from studies.looks import RUNGS, continued, decided_after, disagreeing, seen, sweep


def test_a_look_more_calls_no_fewer_equal_arms_different():
    once, ever = continued(3, 60)
    assert 0 <= once <= ever < 0.2


def test_a_plan_sees_what_it_promises():
    last, some = seen(RUNGS[0], 100)
    assert 0.8 <= last <= some


def test_a_large_speed_up_is_decided_at_the_first_look():
    large = sweep("mid", 2.0, 10, np.random.default_rng(0))
    assert decided_after(large, 10) == 3
    assert decided_after(large, 10, first=5) == 5


def test_of_fixed_studies_few_fresh_seeds_disagree():
    (_, count, fixed), *_ = disagreeing(60)
    assert count == "60"
    assert float(fixed.rstrip("%")) < 15

"""Contrasts of arms, on curves whose speed-ups are known."""

import math
from dataclasses import replace

import pytest

from studies.contrasts import contrast, log_speed_ups, tables
from tests.twostage.synthetic_sweep import changed
from twostage.analysis.records import Arm


def results_of(**factors: tuple[float, ...]):
    """Arms that are so many times as fast as the control, by seed."""
    base = changed(factors=(1.0, 1.0, 1.0))
    curves = [curve for curve in base.curves if curve.arm == "control"]
    for name, each in factors.items():
        curves += [replace(curve, arm=name) for curve in changed(factors=each).curves if curve.arm == "equivariant"]
    return replace(base, arms=[base.arms[0], *(Arm(name, name.capitalize()) for name in factors)], curves=curves)


RESULTS = results_of(both=(1.6, 1.62, 1.58), scale=(1.4, 1.41, 1.39), often=(1.5, 1.7, 1.6))


def test_a_contrast_is_paired_by_seed():
    found = contrast(RESULTS, "both", "scale")
    logs = [math.log(a / b) for a, b in zip((1.6, 1.62, 1.58), (1.4, 1.41, 1.39), strict=True)]
    assert found.mean == pytest.approx(sum(logs) / 3, rel=1e-3)
    assert found.num_seeds == 3
    assert contrast(RESULTS, "both", "control").mean == pytest.approx(math.log(1.6), abs=1e-3)


def test_the_table_says_what_came_as_expected():
    rows = tables(RESULTS, [("both", "scale"), ("scale", "both"), ("often", "both")]).splitlines()[2:]
    assert [row.split("|")[3].strip() for row in rows] == ["as expected", "the other way round", "undecided"]
    assert rows[0].startswith("| Both over Scale | 1.14 (1.1")


def test_an_unknown_arm_is_named_and_a_bound_refused():
    with pytest.raises(ValueError, match="no arm 'turns': there are control, both, scale, often"):
        log_speed_ups(RESULTS, "turns")
    with pytest.raises(ValueError, match="seed 0 of both has no speed-up but a bound"):
        log_speed_ups(results_of(both=(100.0, 1.0, 1.0)), "both")
    lacking = replace(RESULTS, curves=[curve for curve in RESULTS.curves if (curve.arm, curve.seed) != ("both", 2)])
    with pytest.raises(ValueError, match="both lacks seed 2"):
        contrast(lacking, "both", "scale")

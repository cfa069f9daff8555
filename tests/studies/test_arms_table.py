"""The table of many arms: who beats control and rival, and by how much."""

from dataclasses import replace

import pytest

from studies.arms_figure import draw
from studies.arms_table import beating_both, tables
from tests.twostage.synthetic_sweep import METRIC, power_law, synthetic_results
from twostage.analysis.records import Arm

FACTOR = {"control": 1.0, "equivariant": 1.4, "fast": 2.2, "blurred": 1.9, "slow": 0.6}
PSNR = {"control": 30.0, "equivariant": 29.0, "fast": 30.2, "blurred": 29.8, "slow": 31.0}
JITTER = (1.0, 1.03, 0.98, 1.01, 0.97)


def results_of(ready: str | None = None):
    """Arms with known speed-ups over the control, three seeds; `ready` was not trained, its autoencoder has no seed."""
    base = synthetic_results(3, JITTER)
    curve, own = base.curves[0], base.autoencoders[-1]
    curves, autoencoders = [], []
    for place, (arm, factor) in enumerate(FACTOR.items()):
        for seed in range(3):
            jitter = JITTER[(seed + place) % len(JITTER)]
            steps = [point.num_steps for point in curve.points]
            values = power_law(steps, factor=factor * jitter)
            points = [
                replace(point, metrics=point.metrics | {METRIC: value})
                for point, value in zip(curve.points, values, strict=True)
            ]
            curves.append(replace(curve, arm=arm, seed=seed, points=points))
        for seed in [None] if arm == ready else range(3):
            autoencoders.append(replace(own, arm=arm, seed=seed, metrics=own.metrics | {"psnr": PSNR[arm]}))
    arms = [Arm(name, name.capitalize()) for name in FACTOR]
    return replace(base, arms=arms, curves=curves, autoencoders=autoencoders)


@pytest.mark.parametrize("ready", [None, "fast"])
def test_only_a_faster_arm_that_reconstructs_better_beats_both(ready):
    assert beating_both(results_of(ready), "equivariant") == ["fast"]


def test_one_seed_with_the_lower_psnr_is_enough_to_lose():
    results = results_of()
    lower = [
        replace(each, metrics=each.metrics | {"psnr": 29.9}) if (each.arm, each.seed) == ("fast", 1) else each
        for each in results.autoencoders
    ]
    assert beating_both(replace(results, autoencoders=lower), "equivariant") == []


def test_the_table_has_the_fastest_first_and_each_arm_against_both():
    text = tables(results_of(), "equivariant")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    start = next(place for place, row in enumerate(rows) if row[1] == "FD at the end") + 2
    found = {row[0]: row for row in rows[start:]}
    assert list(found) == ["Fast", "Blurred", "Equivariant", "Control", "Slow"]
    assert found["Fast"][2].startswith("**faster** 2.16")
    assert found["Fast"][3].startswith("**faster** 1.5")
    assert found["Slow"][2].startswith("**slower** 0.6")
    assert found["Control"][2] == found["Equivariant"][3] == ""
    assert text.endswith("above the control's: Fast.**")
    assert "30.20" in next(row for row in rows if row[0] == "Fast")[1]


def test_a_figure_of_all_arms_is_drawn(tmp_path):
    draw(results_of(), "equivariant", tmp_path / "arms.svg")
    text = (tmp_path / "arms.svg").read_text()
    assert all(f"<!-- {name.capitalize()} -->" in text for name in FACTOR if name != "control")
    assert "<!-- Control -->" not in text


def test_the_time_of_a_step_is_that_of_the_seed_which_was_disturbed_least():
    seconds = {"control": (10.0, 40.0, 11.0), "fast": (90.0, 15.0, 20.0)}
    results = results_of()
    timed = [
        replace(each, device_seconds=seconds[each.arm][each.seed]) if each.arm in seconds else each
        for each in results.autoencoders
    ]
    rows = tables(replace(results, autoencoders=timed), "equivariant").splitlines()
    assert next(row for row in rows if row.startswith("| Fast |")).endswith("| 1.50 |")
    ready = [replace(each, num_steps=0, device_seconds=None) for each in timed]
    rows = tables(replace(results, autoencoders=ready), "equivariant").splitlines()
    assert next(row for row in rows if row.startswith("| Fast |")).endswith("|  |")

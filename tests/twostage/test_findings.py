"""What results say, without a page: what is no result, speed-ups, means, headlines, units and numbers in words."""

# ruff: noqa: RUF001 (the true signs that readers are shown)

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from tests.twostage.synthetic_sweep import METRIC, changed, only
from twostage.analysis.records import Arm, SweepResults
from twostage.analysis.summary import summarize
from twostage.report.text import format_duration, format_number


def test_speed_up_and_change_are_the_known_ones():
    comparison = only(changed(factors=(2.0, 4.0)))
    assert [each.speed_up.ratio for each in comparison.per_seed] == pytest.approx([2.0, 4.0])
    assert [each.speed_up.treated_steps for each in comparison.per_seed] == pytest.approx([800, 400])
    last = comparison.equal_steps[-1]
    assert last.num_steps == 1600
    assert list(np.exp(list(last.changes.values()))) == pytest.approx([2**-0.25, 4**-0.25])


def test_means_over_seeds_and_over_transforms():
    results = changed(factors=(2.0, 1.3))
    summary = summarize(results)
    psnr = [each.metrics["psnr"] for each in results.autoencoders if each.arm == "control"]
    row = next(row for row in summary.autoencoders if row.arm == "control")
    assert row.metrics["psnr"].mean == pytest.approx(np.mean(psnr))
    errors = [each.equivariance["latent"] for each in results.autoencoders if each.arm == "control"]
    last = summary.equivariance["latent"][-1]
    assert last.transform == "mean of transforms"
    assert last.arms["control"].mean == pytest.approx(np.mean([list(each.values()) for each in errors]))


def test_means_over_transforms_are_of_those_that_all_arms_have():
    """Latents of 6 x 6 are not quartered, so a mean over all transforms would be one of other probes."""
    results = changed(factors=(2.0, 1.3))
    probes = list(results.autoencoders[0].equivariance["latent"])
    turns = [name for name in probes if name.startswith("rotation")]
    assert 0 < len(turns) < len(probes)

    def cut(each):
        few = {space: {name: errors[name] for name in turns} for space, errors in each.equivariance.items()}
        return replace(each, equivariance=few) if each.arm == "equivariant" else each

    cut_results = replace(results, autoencoders=[cut(each) for each in results.autoencoders])
    summary = summarize(cut_results)
    last = summary.equivariance["latent"][-1]
    for arm in ("control", "equivariant"):
        errors = [each.equivariance["latent"] for each in results.autoencoders if each.arm == arm]
        mean = np.mean([[each[name] for name in turns] for each in errors])
        assert last.arms[arm].mean == pytest.approx(mean)
        (row,) = (row for row in summary.leaderboard if row.arm == arm)
        assert row.columns["equivariance/latent"].value == pytest.approx(mean)
    assert [row.transform for row in summary.equivariance["latent"]] == [*probes, "mean of transforms"]


@pytest.mark.parametrize(
    ("factors", "expected", "forbidden"),
    [
        ((2.0, 1.9, 2.1), ["Faster: reaches the same Fréchet distance", "times fewer steps",
                           "95 % interval 1.76 to 2.26; 3 seeds", "After equally many steps", "better"], "Undecided"),
        ((2.0, 0.9), ["Undecided: 1.34 times", "2 seeds", "contains 1", "More than 20 seeds"], "Faster"),
        ((0.5, 0.52, 0.48), ["Slower: needs 2.00 times as many steps", "worse"], "0.5"),
        ((2.0,), ["Undecided: one training per arm. This seed: 2.00×", "Retraining alone"], "Faster"),
        ((100.0, 90.0, 80.0), ["Faster: at least 16.00 times fewer steps (3 seeds", "Evaluate earlier"], "interval"),
        ((2.0, 2.0, 2.0), ["identical numbers"], "Faster"),
    ],
)  # fmt: skip
def test_the_headline_claims_no_more_than_the_seeds_show(factors, expected, forbidden):
    headline = summarize(changed(factors=factors)).headline
    for words in expected:
        assert words in headline
    assert forbidden not in headline


def test_the_headline_of_one_evaluation_computes_no_speed_up():
    assert "not resolved" in summarize(changed(factors=(2.0,), steps=(100,))).headline


def test_seeds_are_paired_and_a_missing_one_leaves_the_verdict_open():
    results = changed(factors=(2.0, 1.3, 1.9))
    curves = [curve for curve in results.curves if (curve.arm, curve.seed) != ("equivariant", 1)]
    comparison = only(replace(results, curves=curves))
    assert [each.seed for each in comparison.per_seed] == [0, 2]
    assert (comparison.verdict.word, comparison.verdict.missing_seeds) == ("undecided", [1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (1600, "1,600"),
        (1599.4, "1,599"),
        (33.041, "33.04"),
        (0.0072, "0.0072"),
        (5.2e-5, "5.2e-05"),
    ],
)
def test_numbers_have_four_significant_digits(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (3.21, "3.2 s"), (245, "4 min 05 s"), (3599.7, "1 h 00 min"), (7800, "2 h 10 min")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_speed_ups_are_counted_in_steps_images_and_time_and_with_the_fine_tuning():
    rows = only(changed(factors=(2.0, 4.0))).axes
    ratios = {row.label: [each.speed_up.ratio for each in row.per_seed] for row in rows}
    assert list(ratios) == [
        "training steps",
        "images seen",
        "wall time of the generator's training",
        "device time of the generator's training",
        "device time, the arm's fine-tuning included",
    ]
    *plain, including = ratios.values()
    assert all(values == pytest.approx([2, 4]) for values in plain)
    # 160 s of the control; 80 s and 40 s of the arm, and 10 s of fine-tuning.
    assert including == pytest.approx([160 / 90, 160 / 50])
    assert all(row.verdict.change is None for row in rows)


def test_without_the_cost_of_fine_tuning_there_is_no_ratio_that_includes_it():
    results = changed(factors=(2.0,))
    results = replace(results, autoencoders=[replace(each, device_seconds=None) for each in results.autoencoders])
    assert "device time, the arm's fine-tuning included" not in [row.label for row in only(results).axes]


def test_one_seed_has_an_interval_over_its_samples_and_no_verdict():
    results, draw = changed(factors=(2.0,)), np.random.default_rng(0)
    assert only(results).over_samples is None
    curves = [
        replace(
            curve,
            points=[
                replace(point, resampled=list(point.metrics[METRIC] * (1 + 0.01 * draw.normal(size=40))))
                for point in curve.points
            ],
        )
        for curve in results.curves
    ]
    comparison = only(replace(results, curves=curves))
    assert comparison.over_samples.low < 2 < comparison.over_samples.high
    assert comparison.over_samples.num_resamples == 40
    assert comparison.verdict.word == "undecided"
    assert "which decides nothing" in summarize(replace(results, curves=curves)).headline


def test_looks_after_every_seed_are_said_to_be_looks():
    results = replace(changed(factors=(2.0, 1.99, 2.01)), max_seeds=10)
    comparison = only(results)
    assert comparison.verdict.level == 0.0121
    assert "98.79 % interval of this look" in summarize(results).headline


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": ["0"]}, r"results\.seeds\[0\] is '0', expected int"),
        ({"arms": [{"name": "control"}]}, r"results\.arms\[0\]: .*label"),
        ({"tempo": 1}, "unknown key tempo"),
        ({"curves": [7]}, r"results\.curves\[0\] is 7, expected the keys of Curve"),
        ({"control": "baseline"}, "control 'baseline' is not among the arms"),
    ],
)
def test_a_file_that_holds_no_results_is_refused_with_the_place(change, message):
    values = json.loads(json.dumps(asdict(changed(factors=(2.0,)))))
    with pytest.raises(ValueError, match=message):
        SweepResults.from_dict(values | change)


@pytest.mark.parametrize(
    ("arms", "first"),
    [
        ({"sure": (1.2, 1.2001, 1.1999), "fast": (2.0, 2.1, 1.9), "slow": (0.4, 0.41, 0.39)}, "fast"),
        ({"open": (0.7, 1.3, 1.1), "slow": (0.8, 0.81, 0.79), "slowest": (0.4, 0.41, 0.39)}, "slowest"),
        ({"open": (0.7, 1.3, 1.1), "likely": (0.95, 1.4, 1.3)}, "likely"),
    ],
)
def test_told_first_is_the_fastest_arm_that_is_so_for_certain(arms, first):
    """Not the one whose p-value is smallest: a small and steady gain may have that."""
    base = changed(factors=(1.0, 1.0, 1.0))
    curves = [curve for curve in base.curves if curve.arm == "control"]
    for name, factors in arms.items():
        treated = [curve for curve in changed(factors=factors).curves if curve.arm == "equivariant"]
        curves += [replace(curve, arm=name) for curve in treated]
    results = replace(base, arms=[base.arms[0], *(Arm(name, name) for name in arms)], curves=curves)
    assert f"on “{first}”" in summarize(results).headline

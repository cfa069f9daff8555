"""What a diverged seed, or an arm that lost all of them, leaves: it is named everywhere, and moves no number."""

# ruff: noqa: RUF001 (the true signs that readers are shown)

import math
import re
from dataclasses import replace

import pytest

from tests.twostage.synthetic_sweep import METRIC, changed, only, synthetic_results, with_metric
from tests.twostage.test_agreement import fresh, published
from twostage.analysis.leaderboard import COST, SPEED_UP
from twostage.analysis.records import Arm, Curve
from twostage.analysis.summary import is_open, summarize
from twostage.compare.answer import answer
from twostage.rank.boards import Report, boards
from twostage.rank.files import ranks_table, write_ranks
from twostage.report.curve_charts import curve_plots
from twostage.report.exchange import every_eval_ever, hub_results
from twostage.report.report import terminal_table, write_report


def diverged(results, seed, after=400, arm="equivariant"):
    """The results with nothing finite of this seed later on."""
    lost = {(curve.arm, curve.seed) for curve in results.curves if (curve.arm, curve.seed) == (arm, seed)}
    return with_metric(
        results,
        lambda curve, point: (
            math.nan if (curve.arm, curve.seed) in lost and point.num_steps > after else point.metrics[METRIC]
        ),
    )


def with_lost_arm(results, with_curves=True):
    """The results with a third arm, none of whose values is finite."""
    twins = [replace(curve, arm="lost") for curve in results.curves if curve.arm == "control" and with_curves]
    own = replace(results, arms=[*results.arms, Arm("lost", "Lost arm", "")], curves=[*results.curves, *twins])
    return with_metric(own, lambda curve, point: math.nan if curve.arm == "lost" else point.metrics[METRIC])


def cells(page, caption):
    """Rows of a table of the page, by the text of their cells."""
    table = page[page.index(caption) :].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
    return [
        [re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows
    ]


def test_every_value_stands_under_its_own_seed(tmp_path):
    results = diverged(changed((2.0, 1.3, 1.6)), seed=1)
    page = write_report(tmp_path, results).read_text()
    heads, *rows = cells(page, "At equal steps")
    assert heads == ["Steps", "Seed 0", "Seed 1", "Seed 2", "Mean", "Interval"]
    assert {len(row) for row in rows} == {6}
    assert {row[2] for row in rows} == {"–"}
    last = only(results).equal_steps[-1].changes
    assert rows[-1][1] == f"{math.expm1(last[0]):+.1%}".replace("-", "−")
    assert rows[-1][3] == f"{math.expm1(last[2]):+.1%}".replace("-", "−")


def test_a_unit_that_a_seed_lacks_has_an_empty_cell_and_no_verdict():
    results = changed((2.0, 1.3, 1.6))
    bare = [
        replace(curve, points=[replace(point, seconds=None) for point in curve.points]) if curve.seed == 1 else curve
        for curve in results.curves
    ]
    row = next(row for row in only(replace(results, curves=bare)).axes if row.label.startswith("wall time"))
    assert [(each.seed, each.speed_up is None) for each in row.per_seed] == [(0, False), (1, True), (2, False)]
    assert row.verdict.reason == "missing seeds"


def test_no_further_seed_is_trained_for_a_comparison_that_has_lost_one():
    assert is_open(synthetic_results(1))
    assert not is_open(diverged(changed(), 1))


def test_the_mean_curve_is_that_of_complete_seeds():
    whole, results = changed((2.0, 2.0)), diverged(changed((2.0, 1.3, 2.0)), seed=1, after=200)
    whole = replace(results, seeds=[0, 2], curves=[curve for curve in results.curves if curve.seed != 1])
    first, expected = (curve_plots(each, each.generators[0])[0].alternative for each in (results, whole))
    treated = "Equivariant fine-tuning ends at "
    assert first.partition(treated)[2].split()[0] == expected.partition(treated)[2].rstrip(".")
    assert "without seed 1, which ends early" in first
    assert "last level both arms reached" in curve_plots(results, results.generators[0])[0].markup


def test_a_mean_that_ends_early_says_so_and_draws_no_level():
    results = diverged(diverged(changed((2.0, 1.3)), seed=0, after=200), seed=1, after=200)
    plot = curve_plots(results, results.generators[0])[0]
    assert "Equivariant fine-tuning ends after 200 steps at" in plot.alternative
    assert "last level both arms reached" not in plot.markup


def test_a_lost_arm_is_named_and_counted(tmp_path):
    for with_curves in (True, False):
        results = with_lost_arm(changed((2.0, 1.9, 2.1)), with_curves)
        summary = summarize(results)
        assert [each.arm for each in summary.not_compared] == ["lost"]
        assert "Of all 2 comparisons: 1 faster, 1 without a value" in summary.headline
        told = "SiT-tiny on “Lost arm”: not compared, none of its seeds has a finite Fréchet distance"
        assert told in summary.headline
        assert any(told in line for line in answer(results))
        assert "Lost arm" in " ".join(terminal_table(results).split())
        row = next(row for row in summary.leaderboard if row.arm == "lost")
        assert (row.verdict, row.num_seeds, row.columns[SPEED_UP].value) == (None, 0, None)


def test_a_lost_arm_is_no_second_control_of_a_ranking(tmp_path):
    found = boards([Report("a", "a/report.json", with_lost_arm(changed((2.0, 1.9, 2.1))))])
    assert [(each.arm_label.split()[0], each.is_control) for each in found[0].entries] == [
        ("Equivariant", False),
        ("Ordinary", True),
        ("Lost", False),
    ]
    (line,) = (line for line in ranks_table(found).splitlines() if "Lost arm" in line)
    assert "no value" in line
    assert "1.00" not in line
    page = write_ranks(tmp_path, found).read_text()
    assert page.count('data-word="control"') == 1


def test_a_study_s_diverged_seed_is_in_no_prediction():
    study = published((2.0, 1.9, 2.1))
    with_a_fourth = replace(diverged(changed((2.0, 1.9, 2.1, 9.0)), seed=3, after=800), max_seeds=study.max_seeds)
    damaged = replace(study, seeds=[0, 1, 2, 3], curves=with_a_fourth.curves)
    whole, without = (summarize(fresh(3.0, study=each)).agreements[0] for each in (study, damaged))
    assert (whole.low, whole.high, whole.agrees) == (without.low, without.high, without.agrees)
    assert sorted(without.published) == [0, 1, 2]


def test_two_copies_of_a_fresh_seed_are_not_two():
    (agreement,) = summarize(fresh(2.0, 2.0, study=published((2.2, 1.9, 2.1)))).agreements
    assert len(agreement.repeated) == 1
    assert agreement.agrees is None


def test_a_number_over_fewer_seeds_says_so_and_has_no_rank():
    results = diverged(changed((8.0, 8.1, 7.9)), seed=1)
    row = next(row for row in summarize(results).leaderboard if not row.is_control)
    assert (row.num_seeds, row.missing_seeds) == (2, [1])
    assert row.columns[METRIC].rank is None
    assert row.columns[METRIC].value is not None
    (entry,) = hub_results(results, "me/data:task")["equivariant-sit"]
    assert "2 seeds, without seed 1, which has no value" in entry["notes"]


def test_an_unknown_cost_of_fine_tuning_is_not_none():
    results = changed((2.0, 1.9, 2.1))
    ready = [
        replace(each, device_seconds=None) if each.arm == "equivariant" else replace(each, device_seconds=5000.0)
        for each in results.autoencoders
    ]
    found = {row.arm: row.columns[COST] for row in summarize(replace(results, autoencoders=ready)).leaderboard}
    assert found["control"].value > 5000
    assert (found["equivariant"].value, found["equivariant"].rank) == (None, None)
    unknown = [replace(each, device_seconds=None) for each in results.autoencoders]
    found = {row.arm: row.columns[COST] for row in summarize(replace(results, autoencoders=unknown)).leaderboard}
    assert found["control"].value == found["equivariant"].value == 160.0


def test_the_start_as_an_arm_costs_nothing_before_its_generators():
    results = changed((2.0, 1.9, 2.1))
    none = [replace(each, device_seconds=None) if each.arm == "equivariant" else each for each in results.autoencoders]
    sweep = {"start": {"autoencoder": "a"}, "autoencoders": {"control": {}, "equivariant": {"autoencoder": "a"}}}
    found = summarize(replace(results, autoencoders=none, sweep=sweep)).leaderboard
    assert {row.arm: row.columns[COST].value for row in found} == {"control": 170.0, "equivariant": 160.0}


def test_curves_without_a_step_in_common_miss_no_seed():
    results = changed((2.0, 1.9, 2.1))
    curves = [replace(curve, points=curve.points[index % 5 :][:1]) for index, curve in enumerate(results.curves)]
    found = summarize(replace(results, curves=curves)).leaderboard
    assert {(row.num_steps, row.num_seeds, tuple(row.missing_seeds)) for row in found} == {(None, 3, ())}


def test_a_bound_is_no_score():
    results = changed((100.0, 3.0, 3.6))
    assert summarize(results).comparisons[0].verdict.kind == "at least"
    record = every_eval_ever(results, "us")["equivariant-sit"]
    assert not any(each["metric_config"]["metric_id"] == "eqvae.speed_up" for each in record["evaluation_results"])
    sentence = summarize(changed((100.0, 15.5, 90.0))).headline
    assert "was better at its first" not in sentence
    assert "≥" in sentence


@pytest.mark.parametrize("factor", [1.004, 1 / 1.004])
def test_no_rounding_puts_a_decided_verdict_on_1(factor):
    results = changed((factor, factor * 1.00001, factor * 1.00002, factor * 0.99999))
    comparison = only(results)
    assert comparison.verdict.word in ("faster", "slower")
    assert not re.search(r"\b1\.00\b", summarize(results).headline)


def test_files_for_others_do_not_take_each_other_s_names():
    results = changed((2.0, 1.9, 2.1))
    sit = results.generators[0]
    names = {"eq": "equivariant", "eq-sit": "control"}
    arms = [Arm(new, f"Arm {new}", "") for new in names]
    generators = [replace(sit, name="sit-b"), replace(sit, name="b")]
    curves = [
        Curve(arm, generator.name, curve.seed, curve.points)
        for arm, old in names.items()
        for generator in generators
        for curve in results.curves
        if curve.arm == old
    ]
    changed_names = replace(results, arms=arms, control="eq-sit", generators=generators, curves=curves, autoencoders=[])
    assert len(every_eval_ever(changed_names, "us")) == 4

"""Fresh seeds beside a published study: where they are expected, whether they agree, and what the report says of it."""

# ruff: noqa: RUF001 (the true signs that readers are shown)

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from tests.twostage.synthetic_sweep import METRIC, synthetic_results, with_metric
from twostage.analysis.agreement import prediction_interval
from twostage.analysis.records import Published
from twostage.analysis.summary import summarize
from twostage.report.interval_charts import agreement_plots
from twostage.report.page import badge
from twostage.report.report import render_markdown, terminal_table, write_report

STUDY = (1.30, 1.20, 1.45, 1.25, 1.35, 1.28)


def published(factors=STUDY, **changes) -> Published:
    study = synthetic_results(num_seeds=len(factors), factors=factors)
    values = {name: getattr(study, name) for name in ("created", "versions", "hardware", "seeds", "curves")}
    return Published("demo", **values | changes)


def fresh(*factors, study: Published):
    """Results of seeds 10, 11, ... whose equivariant arm is so many times faster, beside a study."""
    results = synthetic_results(num_seeds=len(factors), factors=factors)
    curves = [replace(curve, seed=10 + curve.seed) for curve in results.curves]
    return replace(results, seeds=[10 + seed for seed in results.seeds], curves=curves, published=study)


def only(results):
    (agreement,) = summarize(results).agreements
    return agreement


def test_the_prediction_interval_has_its_known_value():
    low, high = prediction_interval([0.0, 1.0, 2.0], num_fresh=1)
    half = 4.302652729749464 * math.sqrt(1 + 1 / 3)  # t of 2 degrees of freedom, sd 1
    assert (low, high) == pytest.approx((1 - half, 1 + half), rel=1e-9)
    low, high = prediction_interval([0.0, 1.0, 2.0], num_fresh=3)
    assert high - 1 == pytest.approx(4.302652729749464 * math.sqrt(2 / 3), rel=1e-9)


def with_last(results, value):
    """The metric of the equivariant arm at its last step is another."""
    return with_metric(
        results,
        lambda curve, point: value if (curve.arm, point.num_steps) == ("equivariant", 1600) else point.metrics[METRIC],
    )


def test_differences_are_held_against_differences_where_one_side_may_be_negative():
    """As kernel distances are; the study's changes were logs then, and the fresh seed's a difference."""
    study = published((100.0, 90.0, 95.0, 110.0))  # bounds, so that changes are compared
    results = with_last(fresh(100.0, study=study), -0.5)
    agreement = only(results)
    assert agreement.quantity == "difference"
    treated, control = (
        [curve.points[-1].metrics[METRIC] for curve in study.curves if curve.arm == arm]
        for arm in ("equivariant", "control")
    )
    assert list(agreement.published.values()) == pytest.approx(
        [own - theirs for own, theirs in zip(treated, control, strict=True)]
    )


@pytest.mark.parametrize("num_fresh", [1, 3])
def test_it_holds_95_of_100_means_of_further_seeds(num_fresh):
    """Of 4,000 studies of ten seeds; the binomial standard deviation is .34 of a hundred."""
    drawn = np.random.default_rng(0).normal(0.2, 0.07, (4000, 10 + num_fresh))
    inside = [
        low <= row[10:].mean() <= high
        for row in drawn
        for low, high in [prediction_interval(row[:10], num_fresh)]  # pyright: ignore[reportGeneralTypeIssues]
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=4 * 0.0034)


def test_nothing_is_foretold_from_one_seed_or_from_identical_ones():
    assert prediction_interval([0.3], 1) is None
    assert prediction_interval([0.3, 0.3], 1) is None
    with pytest.raises(ValueError, match="at least one"):
        prediction_interval([0.3, 0.2], 0)


@pytest.mark.parametrize(("factor", "agrees"), [(1.31, True), (1.44, True), (1.0, False), (2.0, False)])
def test_a_fresh_seed_agrees_where_further_seeds_are_expected(factor, agrees):
    found = only(fresh(factor, study=published()))
    logs = np.log(STUDY)
    half = 2.570581835636314 * logs.std(ddof=1) * math.sqrt(1 + 1 / 6)  # t of 5 degrees of freedom
    assert found.quantity == "log speed-up"
    assert found.fresh[10] == pytest.approx(math.log(factor), abs=2e-3)  # curves interpolate the steps to a level
    assert (found.low, found.high) == pytest.approx((logs.mean() - half, logs.mean() + half), abs=3e-3)
    assert found.agrees is agrees


def test_the_verdict_is_the_study_s_and_not_that_of_one_fresh_seed():
    results = fresh(1.31, study=published())
    summary = summarize(results)
    assert summary.agreements[0].verdict.word == "faster"
    assert summary.agreements[0].verdict.num_seeds == 6
    assert summary.comparisons[0].verdict.word == "undecided"
    assert summary.headline.startswith("Published: faster by 1.30 times (1.22 to 1.40), 6 seeds. Yours, seed 10: 1.3")
    assert "agrees, a fresh seed falls between" in summary.headline


def test_several_fresh_seeds_agree_by_their_mean():
    narrow, wide = only(fresh(1.31, 1.32, 1.33, study=published())), only(fresh(1.31, study=published()))
    assert narrow.high - narrow.low < wide.high - wide.low
    assert narrow.mean == pytest.approx(np.mean(list(narrow.fresh.values())))


def test_where_a_seed_has_only_a_bound_the_last_changes_are_compared():
    found = only(fresh(100.0, study=published()))  # better at its first point than the control at its last
    assert found.quantity == "log change"
    assert found.agrees is False
    assert "−" in summarize(fresh(100.0, study=published())).headline


def test_a_fresh_seed_without_a_last_value_gives_no_answer():
    lost = with_metric(
        fresh(1.31, 1.22, study=published()),
        lambda curve, point: None if (curve.seed, point.num_steps) == (11, 1600) else point.metrics[METRIC],
    )
    found = only(lost)
    assert found.agrees is None
    assert "missing" in summarize(lost).headline


def test_a_seed_that_repeats_a_number_of_the_study_is_no_fresh_training():
    study = published()
    again = fresh(1.31, study=study)
    copied = {(curve.arm, curve.seed): curve for curve in study.curves}
    curves = [replace(curve, points=copied[curve.arm, 0].points) for curve in again.curves]
    found = only(replace(again, curves=curves))
    assert (found.agrees, found.repeated) == (None, [10])


def test_the_page_shows_the_study_first(tmp_path):
    results = fresh(1.31, study=published())
    page = write_report(tmp_path, results).read_text()
    assert page.index("Do these seeds agree with the published study?") < page.index("Does the generator learn faster?")
    assert page.index("What follows is about the fresh seeds alone") < page.index("<h2>Leaderboard</h2>")
    assert "seed 10" in (tmp_path / "figures" / "agreement.svg").read_text()
    top = badge(summarize(results))
    assert (top.word, top.size) == ("agrees", "1.31 times")
    assert top.detail.startswith("published: faster, 1.")
    assert "Published: faster" in terminal_table(results)
    assert "Published: faster" in render_markdown(results, summarize(results))


def test_names_of_fresh_seeds_hide_no_circle_and_no_other_name():
    """Each has a line of its own below the band, also where seeds have the same value, and rows make room for them."""
    results = fresh(1.28, 1.281, 1.40, study=published())
    (plot,) = agreement_plots(results, summarize(results))
    chart = ET.fromstring(plot.markup)
    names = [each for each in chart.iter("text") if str(each.text).startswith("seed ")]
    assert [each.text for each in names] == ["seed 10", "seed 11", "seed 12"]
    band = next(each for each in chart.iter("rect") if each.get("class") == "expected")
    lines = [float(each.attrib["y"]) for each in names]
    letters = 12  # pixels, as charts.css has it
    assert lines[0] - letters >= float(band.attrib["y"]) + float(band.attrib["height"]) - 1
    assert min(np.diff(lines)) >= letters
    assert lines[-1] < plot.height

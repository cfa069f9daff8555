"""The tables on the pages of the studies are those of the results that are kept."""

from pathlib import Path
from statistics import mean, stdev

import pytest
from scipy.stats import binomtest

from studies import (
    arms_forecast,
    arms_table,
    compare_accuracy,
    contrasts,
    decoder,
    distance_panel,
    dose_report,
    forecast,
    how_soon,
    losses_table,
    start_report,
    treatment_report,
)
from studies.forecast import collect, gauge_of
from studies.start_search import read_results, read_table
from studies.sweep_table import tables
from twostage.compare.forecast import Gauge
from twostage.verify import find_study, read_study
from twostage.verify.packaged import packaged_studies

ROOT = Path(__file__).parents[2]
DOSE = ROOT / "studies/dose.yaml"
RIVALS = {"ablation": "both", "regularizers": "equivariant"}
"""Sweeps of many arms, whose page has a row for each, and the arm that they are held against beside the control."""


BATCHES = ("compare-accuracy", "compare-accuracy-again")


def kept(name: str) -> list[dict]:
    return read_results(ROOT / f"studies/results/{name}.jsonl")


def start_table() -> str:
    return start_report.to_markdown(kept("start-search"))


def seeds_table() -> str:
    return start_report.to_markdown(kept("start-seeds"))


def treatment_table() -> str:
    starts = {line["name"]: line for line in kept("start-search")}
    return treatment_report.to_markdown(starts, kept("treatment-search"))


def token_table() -> str:
    return _tuned_table("token-search")


def second_token_table() -> str:
    return _tuned_table("token-search-mean")


def _tuned_table(name: str) -> str:
    lines = kept(name)
    return treatment_report.to_markdown({line["name"]: line for line in lines}, [x for x in lines if "start" in x])


def decoder_table() -> str:
    return decoder.to_markdown(kept("decoder"))


def panel_table() -> str:
    return distance_panel.to_markdown(kept("distance-panel"))


def arms_forecast_table() -> str:
    return arms_forecast.tables(collect(kept("regularizers")))


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("start-search", start_table),
        ("start-search", seeds_table),
        ("treatment-search", treatment_table),
        ("maskgit", token_table),
        ("maskgit", second_token_table),
        ("decoder", decoder_table),
        ("distance-panel", panel_table),
        ("regularizers", arms_forecast_table),
    ],
)
def test_a_page_holds_the_table_of_its_results_as_it_is(page, table):
    rows = table()
    assert rows.count("\n") > 4
    assert rows in (ROOT / f"docs/studies/{page}.md").read_text()


def test_the_page_of_the_forecast_holds_its_tables_as_they_are():
    page, lines = (ROOT / "docs/forecast.md").read_text(), kept("spaces")
    assert forecast.tables(collect(lines)) in page
    assert losses_table.tables(lines) in page


def test_the_page_on_compare_holds_the_table_of_all_forty_comparisons():
    lines = kept("compare-accuracy")
    assert sorted((line["pair"], line["number"]) for line in lines) == sorted(
        (pair, number) for pair in compare_accuracy.PAIRS for number in range(compare_accuracy.COUNT)
    )
    assert compare_accuracy.tables(lines) in (ROOT / "docs/studies/compare-accuracy.md").read_text()


def test_the_page_on_compare_holds_the_second_twenty():
    lines = kept("compare-accuracy-again")
    page = (ROOT / "docs/studies/compare-accuracy.md").read_text()
    assert {line["pair"] for line in lines} == {"equal"}
    assert sorted(line["number"] for line in lines) == list(range(20, 20 + compare_accuracy.COUNT))
    assert compare_accuracy.tables(lines) in page
    words = [line["word"] for line in [*kept("compare-accuracy"), *lines] if line["pair"] == "equal"]
    assert f"{sum(word != 'undecided' for word in words)} of {len(words)} equal ones" in page
    interval = binomtest(1, len(words)).proportion_ci(method="exact")
    assert f"95 %: {100 * interval.low:.1f} to {100 * interval.high:.0f} %" in page
    found = " and ".join(f".{100 * compare_accuracy.spread(kept(name), 'equal'):.0f}" for name in BATCHES)
    assert f"standard deviations within a comparison are {found}" in page


def test_what_seeds_move_is_said_as_it_is():
    page = (ROOT / "docs/studies/start-search.md").read_text()
    lines = [line for line in kept("start-seeds") if line["base"] == "perceptual"]
    rotation, scale = ([line[name] for line in lines] for name in ("rotation", "scale"))
    assert f"move the rotation error by .{100 * stdev(rotation):.0f}**" in page
    assert f".{100 * min(rotation):.0f} to {max(rotation):.2f}, mean .{100 * mean(rotation):.0f})" in page
    assert f"the scale error by\n  .0{100 * stdev(scale):.0f} " in page
    assert f"differ with a standard deviation of .{100 * 2**0.5 * stdev(rotation):.0f}" in page


def test_the_gauge_that_compare_forecasts_with_is_the_one_that_the_study_chose():
    assert Gauge.load() == gauge_of(collect(kept("spaces")))


@pytest.mark.parametrize("name", packaged_studies())
def test_the_page_of_a_published_sweep_holds_the_tables_of_its_report(name):
    results = read_study(find_study(name))
    text = arms_table.tables(results, RIVALS[name]) if name in RIVALS else tables(results)
    assert text in (ROOT / f"docs/studies/{name}.md").read_text()


def test_the_page_on_how_soon_holds_what_each_snapshot_gained():
    text = how_soon.tables(read_study(find_study("how-soon")))
    assert text in (ROOT / "docs/studies/how-soon.md").read_text()


def test_the_page_of_the_ablation_holds_its_contrasts():
    pairs = [("scale", "rotation"), ("both", "scale"), ("anisotropic", "both"), ("both", "rare"), ("both", "often")]
    assert (
        contrasts.tables(read_study(find_study("ablation")), pairs) in (ROOT / "docs/studies/ablation.md").read_text()
    )


def test_the_page_of_dose_and_response_holds_its_tables():
    lines = kept("dose")
    assert [line["name"] for line in lines] == [each["name"] for each in read_table(str(DOSE))["candidates"]]
    assert dose_report.tables(lines).strip() in (ROOT / "docs/studies/dose.md").read_text()


def test_the_list_of_regularizers_says_what_their_sweep_found():
    """In the row of each, by the arm that has it alone; so too the stronger KL divergence, which is no regularizer."""
    results = read_study(find_study("regularizers"))
    arms = {"equivariant": "Equivariance", "strong_kl": "stronger KL"}
    for name, arm in results.sweep["autoencoders"].items():
        asked = arm["overrides"].get("model.init_args.regularizers")
        if asked:
            arms[name] = asked[0]["class_path"].rpartition(".")[2]
    page = (ROOT / "docs/regularizers.md").read_text().partition("| method | published effect |")[2]
    rows = [line for line in page.partition("\n\n")[0].splitlines() if line.startswith("| ")]
    for arm, text in arms_table.in_short(results).items():
        if arm in arms:
            (row,) = (row for row in rows if arms[arm] in row.split("|")[1].replace("`", "").strip().split(", "))
            assert text in row.split("|")[3]

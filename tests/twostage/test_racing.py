"""Which arms are hopeless at a look, by hand-made curves, and what reports say of those that were stopped."""

import json
import math
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from scipy import stats

from tests.twostage.synthetic_sweep import METRIC, STEPS, power_law, synthetic_results
from twostage.analysis.intervals import level_of_look
from twostage.analysis.leaderboard import SPEED_UP
from twostage.analysis.racing import hopeless_arms, stop_sentence
from twostage.analysis.ranking import ranks
from twostage.analysis.records import Arm, Curve, GeneratorEntry, Point
from twostage.analysis.summary import is_open, open_comparisons, summarize
from twostage.rank.boards import Report, boards
from twostage.report.exchange import hub_results
from twostage.report.files import read_report, report_json
from twostage.report.json_schema import report_schema
from twostage.report.report import render_markdown, terminal_table, write_report

EXPONENT = 0.25
WINNER, TIE, LOSER = (1.5, 1.52, 1.49, 1.51), (1.01, 0.99, 1.02, 0.98), (0.7, 0.71, 0.69, 0.7)


def race(factors, num_seeds=4, max_seeds=6, generators=("sit",)):
    """Results of a look: {arm: true speed-up over the control in each seed}."""
    arms = {"control": (1.0,) * num_seeds} | {name: each[:num_seeds] for name, each in factors.items()}
    curves = [
        Curve(arm, generator, seed, [Point(step, {METRIC: value}) for step, value in zip(STEPS, values, strict=True)])
        for generator in generators
        for arm, each in arms.items()
        for seed, values in enumerate(
            power_law(STEPS, 9000 + 100 * seed, EXPONENT, one) for seed, one in enumerate(each)
        )
    ]
    return replace(
        synthetic_results(),
        arms=[Arm(name, name.capitalize()) for name in arms],
        generators=[GeneratorEntry(name, name.upper()) for name in generators],
        seeds=list(range(num_seeds)),
        curves=curves,
        autoencoders=[],
        differences=[],
        cost=[],
        max_seeds=max_seeds,
    )


def stopped_by(results, **rule):
    """{arm that is stopped: the arm that beat it}."""
    return {each.arm: each.defeats[0].rival for each in hopeless_arms(results, **rule)}


def test_an_arm_is_hopeless_where_another_is_faster_at_the_level_of_the_look_over_the_rivals():
    results = race({"winner": WINNER, "tie": TIE, "loser": LOSER})
    found = {each.arm: each.defeats[0] for each in hopeless_arms(results)}
    assert list(found) == ["tie", "loser"], "in the order of the arms; neither the best nor the control"
    level = level_of_look(6) / 3
    logs = np.log(np.array(TIE) / WINNER)
    low, high = stats.t.interval(1 - level, 3, logs.mean(), stats.sem(logs))
    defeat = found["tie"]
    assert (defeat.rival, defeat.level, defeat.smallest_speed_up) == ("winner", level, None)
    assert [defeat.ratio, defeat.low, defeat.high] == pytest.approx(list(np.exp([logs.mean(), low, high])), rel=1e-3)
    assert defeat.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue, rel=0.05)
    assert defeat.p < level


def test_what_overlaps_at_that_level_goes_on():
    """Decided at the look's own level, and not at that over three rivals."""
    logs = np.log([1.1, 1.14, 1.06, 1.1])
    p = stats.ttest_1samp(logs, 0).pvalue
    assert level_of_look(6) / 3 < p < level_of_look(6)
    others = {"other": (1.0, 1.3, 0.8, 1.0), "third": (1.0, 0.8, 1.3, 1.0)}
    assert stopped_by(race({"slow": tuple(np.exp(-logs)), **others})) == {}
    assert stopped_by(race({"slow": tuple(np.exp(-logs))})) == {"slow": "control"}, "with one rival it is the verdict"


def test_an_arm_that_cannot_be_fast_enough_is_hopeless_too():
    results = race({"tie": TIE})
    assert stopped_by(results) == {}
    assert stopped_by(results, smallest_speed_up=1.04) == {}
    assert stopped_by(results, smallest_speed_up=1.2) == {"tie": "control"}
    (found,) = hopeless_arms(results, smallest_speed_up=1.2)
    logs = np.log(TIE)
    high = stats.t.interval(1 - level_of_look(6), 3, logs.mean(), stats.sem(logs))[1]
    assert found.defeats[0].high == pytest.approx(math.exp(high), rel=1e-3)
    assert "lies below 1.20 times: 1.00 times (98.13 % interval 0." in stop_sentence(results, found)


def test_an_arm_must_be_hopeless_with_every_generator():
    both = race({"winner": WINNER, "loser": LOSER}, generators=("sit", "dit"))
    assert stopped_by(both) == {"loser": "winner"}
    (found,) = hopeless_arms(both)
    assert [each.generator for each in found.defeats] == ["sit", "dit"]
    assert "with SIT Winner is 2.15 times faster" in stop_sentence(both, found)
    turned = [
        replace(curve, arm={"winner": "loser", "loser": "winner"}.get(curve.arm, curve.arm))
        if curve.generator == "dit"
        else curve
        for curve in both.curves
    ]
    assert stopped_by(replace(both, curves=turned)) == {}


@pytest.mark.parametrize(("diverged", "other"), [("loser", "winner"), ("winner", "loser")])
def test_arms_with_a_missing_value_are_not_stopped_and_stop_nobody(diverged, other):
    results = race({"winner": WINNER, "loser": LOSER})
    lost = Point(STEPS[-1], {METRIC: math.nan})
    curves = [
        replace(curve, points=[*curve.points[:-1], lost]) if (curve.arm, curve.seed) == (diverged, 1) else curve
        for curve in results.curves
    ]
    assert stopped_by(replace(results, curves=curves), smallest_speed_up=2.0) == {other: "control"}


def test_one_without_an_interval_is_told_by_the_values_after_equal_steps():
    results = race({"winner": (60.0, 62.0, 61.0, 59.0), "loser": LOSER})
    found = {each.arm: each for each in hopeless_arms(results)}
    assert found["loser"].defeats[0].low is None
    assert "Winner is faster by the values after equally many steps (p" in stop_sentence(results, found["loser"])


@pytest.fixture(scope="module")
def ended():
    """A sweep of four seeds in which an arm was stopped after three, before its numbers became good."""
    look = race({"winner": WINNER, "tie": TIE, "loser": LOSER}, num_seeds=3, max_seeds=5)
    stopped = [each for each in hopeless_arms(look) if each.arm == "loser"]
    assert stopped[0].seeds == [0, 1, 2]
    later = race({"winner": WINNER, "tie": TIE, "loser": LOSER}, max_seeds=5)
    curves = [curve for curve in later.curves if (curve.arm, curve.seed) != ("loser", 3)]
    return replace(later, curves=curves, stopped=stopped), look


def test_a_stopped_arm_keeps_the_interval_of_its_last_look(ended):
    results, look = ended
    found = {each.arm: each.verdict for each in summarize(results).comparisons}
    before = {each.arm: each.verdict for each in summarize(look).comparisons}
    assert found["loser"] == before["loser"]
    assert found["loser"].missing_seeds == []
    assert (found["loser"].num_seeds, found["winner"].num_seeds) == (3, 4)
    assert results.seeds_of("loser") == [0, 1, 2]
    unsaid = {each.arm: each.verdict for each in summarize(replace(results, stopped=[])).comparisons}
    assert unsaid["loser"].reason == "missing seeds", "no seed is left out where nothing says so"


def test_stopped_arms_have_nothing_left_to_decide(ended):
    results, _ = ended
    undecided = race({"winner": WINNER, "tie": TIE}, max_seeds=5)
    assert [each.arm for each in open_comparisons(undecided)] == ["tie"]
    assert is_open(undecided)
    stopped = [replace(results.stopped[0], arm="tie", seeds=[0, 1, 2, 3])]
    assert not is_open(replace(undecided, stopped=stopped))


def test_a_stopped_arm_ranks_below_the_one_that_beat_it_though_intervals_overlap():
    assert ranks([(1.0, 2.0), (0.5, 1.5), (0.9, 1.1)], True) == [1, 1, 1]
    assert ranks([(1.0, 2.0), (0.5, 1.5), (0.9, 1.1)], True, above={1: 0}) == [1, 2, 1]
    assert ranks([(1.6, 2.0), (0.5, 1.5), None], True, above={1: 0, 2: 0}) == [1, 2, None], "counted once"
    best, middle, wide = (1.5, 1.8), (1.2, 1.4), (1.0, 1.6)
    assert ranks([wide, middle, best], True, above={0: 1}) == [3, 2, 1], "below what its rival is below, too"
    assert ranks([wide, wide, wide], True, above={0: 1, 1: 2}) == [3, 2, 1]
    common = np.array([1.0, 1.6, 0.6, 1.2])
    results = race({"winner": tuple(common * 1.2), "loser": tuple(common * (1.0, 1.01, 0.99, 1.0))})
    found = hopeless_arms(results)
    assert {each.arm: each.defeats[0].rival for each in found} == {"loser": "winner"}
    before = {row.arm: row.columns[SPEED_UP].rank for row in summarize(results).leaderboard}
    after = summarize(replace(results, stopped=found)).leaderboard
    assert before == {"winner": 1, "loser": 1, "control": 1}
    assert {row.arm: row.columns[SPEED_UP].rank for row in after} == {"winner": 1, "loser": 2, "control": 1}
    assert {row.arm: (row.stopped, row.num_seeds, row.beaten_by) for row in after}["loser"] == (True, 4, "winner")
    (board,) = boards([Report("a", "a", replace(results, stopped=found, sweep={}))])
    assert {each.arm_label: each.speed_up.rank for each in board.entries} == {"Winner": 1, "Loser": 2, "Control": 1}


def test_report_page_markdown_and_terminal_say_who_was_stopped_when_and_why(ended, tmp_path):
    results, _ = ended
    told = stop_sentence(results, results.stopped[0])
    assert told.startswith(
        "Loser was stopped after seed 2 (3 of at most 5 seeds): Winner is 2.15 times faster (99.24 % "
    )
    page = write_report(tmp_path, results).read_text()
    assert page.count(told) == 2, "at the comparison, and among the notes"
    assert "<small>stopped after 3 seeds</small>" in page
    assert "0, 1, 2, 3; Loser: 0, 1, 2" in page
    markdown = render_markdown(results, summarize(results))
    assert told in markdown.split("## Measurements")[0]
    assert told in terminal_table(results).replace("\n", " ").replace("  ", " ")
    assert summarize(results).headline.endswith("Stopped as hopeless: 1 arm.")
    assert "rests on seeds 0, 1, 2" in summarize(results).notes[0]


def test_the_records_hold_the_stop_and_are_read_again(ended, tmp_path):
    results, _ = ended
    path = tmp_path / "report.json"
    path.write_bytes(report_json(results, summarize(results)))
    assert read_report(path) == results
    values = json.loads(path.read_text())
    jsonschema.validate(values, report_schema(), Draft202012Validator)
    assert values["schema_version"] == "1.2"
    assert values["stopped"][0]["defeats"][0]["rival"] == "winner"


def test_other_forms_count_the_seeds_of_a_stopped_arm(ended):
    results, _ = ended
    text = json.dumps(hub_results(results, "owner/benchmark:task"))
    assert "SIT, 1600 steps, 3 seeds" in text
    assert "SIT, 1600 steps, 4 seeds" in text

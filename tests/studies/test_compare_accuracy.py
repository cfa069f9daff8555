"""Accuracy of comparisons: each is done once, is an independent repetition, and is counted as it says."""

import json
import math
from pathlib import Path

import pytest

from studies.compare_accuracy import PAIRS, SEEDS_APART, found, run_all, spread, tables
from tests.twostage.synthetic_sweep import synthetic_results
from twostage.compare.run import Compared


@pytest.fixture
def asked(monkeypatch):
    """What comparisons are asked, each answered at once."""
    calls = []

    def compare(autoencoders, budget, first_seed, output, **settings):
        calls.append((autoencoders, budget, first_seed))
        output.mkdir(parents=True)
        return Compared([], synthetic_results(3), Path(), Path())

    monkeypatch.setattr("studies.compare_accuracy.compare_autoencoders", compare)
    return calls


def test_what_is_among_the_lines_is_not_done_again(tmp_path, asked):
    lines = tmp_path / "lines.jsonl"
    run_all(lines, tmp_path / "runs", "4m", count=2)
    assert [call[0] for call in asked] == [PAIRS["equal"], PAIRS["different"]] * 2
    assert [call[2] for call in asked] == [0, 0, SEEDS_APART, SEEDS_APART]
    assert not list((tmp_path / "runs").iterdir()), "a folder that was counted is not kept"
    run_all(lines, tmp_path / "runs", "4m", count=3)
    assert [call[2] for call in asked[4:]] == [2 * SEEDS_APART] * 2
    assert len(lines.read_text().splitlines()) == 6
    run_all(lines, tmp_path / "runs", "4m", count=2, first=20, pairs=["equal"])
    assert asked[6:] == [(PAIRS["equal"], "4m", number * SEEDS_APART) for number in (20, 21)]


def test_a_line_is_what_the_comparison_says():
    line = found(Compared([], synthetic_results(3, factors=(1.3, 1.31, 1.32)), Path(), Path()))
    assert line["word"] == "faster"
    assert len(line["log_speed_ups"]) == 3
    assert line["low"] < line["ratio"] < line["high"]
    assert math.log(line["ratio"]) == pytest.approx(sum(line["log_speed_ups"]) / 3)
    assert json.loads(json.dumps(line)) == line


def test_the_table_counts_words_and_intervals():
    def line(pair, word, ratio, low, high, seconds):
        logs = [math.log(ratio)] * 3
        known = {"pair": pair, "word": word, "ratio": ratio, "low": low, "high": high}
        return known | {"log_speed_ups": logs, "seconds": seconds}

    rows = tables(
        [
            line("equal", "undecided", 1.1, 0.9, 1.3, 100),
            line("equal", "faster", 1.2, 1.1, 1.3, 120),
            line("equal", "undecided", 1.0, None, None, 110),
            line("different", "faster", 1.2, 1.1, 1.5, 90),
            line("different", "faster", 1.5, 1.3, 1.6, 90),
        ]
    ).splitlines()
    assert rows[2] == "| equal | 3 | 1 | 0 | 2 | 1.00 | 1 of 2 | 3.0 | 110 s (100 to 120) |"
    assert rows[3] == "| different | 2 | 2 | 0 | 0 | 1.34 | 2 of 2 | 3.0 | 90 s (90 to 90) |"


def test_the_spread_is_that_within_comparisons():
    lines = [{"pair": "equal", "log_speed_ups": logs} for logs in ([0.0, 0.2], [1.0, 1.0, None, 1.3], [5.0])]
    # Squares about each comparison's own mean: 0.02 with one degree of freedom, 0.06 with two.
    assert spread([*lines, {"pair": "different", "log_speed_ups": [0.0, 9.0]}], "equal") == pytest.approx(
        math.sqrt(0.08 / 3)
    )

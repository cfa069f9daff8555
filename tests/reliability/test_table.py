"""The table of the checks: what counts as passed, and that the documentation shows the same checks."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.reliability.checks import CHECKS
from tests.reliability.outcomes import HEADER, Outcome, row, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"


def outcome(*results: tuple[str, str | None, list]) -> Outcome:
    """What comes of tests that "passed", "failed" or "skipped", with what they count as and what they told."""
    found = Outcome()
    for result, counts, told in results:
        states = {state: state == result for state in ("passed", "failed", "skipped")}
        report = SimpleNamespace(**states, nodeid="a::b", longrepr=("file", 1, "Skipped: no disk"))
        found.add(report, counts, told)
    return found


@pytest.mark.parametrize(
    ("results", "figure", "verdict", "complete"),
    [
        ([], "", "NO TEST", False),
        ([("passed", None, [])], "", "NO FIGURE", False),
        ([("passed", "cases", []), ("passed", "cases", [])], "2 of 2 cases", "passed", True),
        ([("passed", "cases", []), ("failed", "cases", [])], "1 of 2 cases", "FAILED: a::b", False),
        ([("skipped", "cases", [])], "", "not run: no disk", True),
        ([("passed", None, [["count", "kills", 5]])] * 2, "10 of 10 kills", "passed", True),
        (
            [("passed", None, [["largest", "weights", 2e-7], ["largest", "weights", 1e-7]]), ("skipped", None, [])],
            "weights 2e-07",
            "passed in part; not run: no disk",
            True,
        ),
        ([("passed", None, [["text", "exit code 1", None]])] * 2, "exit code 1", "passed", True),
    ],
)
def test_what_tests_come_to(results, figure, verdict, complete):
    found = outcome(*results)
    assert (found.figure, found.verdict, found.is_complete()) == (figure, verdict, complete)


def test_every_check_has_a_row():
    rows = list(table({number: Outcome() for number in CHECKS}))
    assert rows[0] == row(HEADER)
    assert [line.split(" | ")[0] for line in rows[2:]] == [f"| {number}" for number in range(1, 31)]


def test_every_check_has_a_marked_test():
    files = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {int(number) for number in re.findall(r"mark\.reliability\((\d+)", files)} == set(CHECKS)


def test_the_page_shows_these_checks_and_a_figure_for_each():
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert {int(number): (name, mark) for number, name, mark, *_ in cells} == {
        number: tuple(check) for number, check in CHECKS.items()
    }
    assert all(figure and verdict for *_, figure, verdict in cells)
    missed = {int(number) for number, *_, verdict in cells if not verdict.startswith("passed")}
    assert missed <= {29}, "only the clock of the machine may keep a promise from being kept"

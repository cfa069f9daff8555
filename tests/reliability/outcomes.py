"""What the tests of a check came to, and the table of all checks."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tests.reliability.checks import CHECKS

HEADER = ("#", "check", "pass mark", "reached", "")


class Outcome:
    """The results of one check's tests, as their reports come in."""

    def __init__(self):
        self.num_passed = 0
        self.failed: list[str] = []
        self.skipped: list[str] = []
        self.counted: Counter[str] = Counter()
        self.cases: Counter[str] = Counter()
        self.largest: dict[str, float] = {}
        self.texts: list[str] = []

    def add(self, report: Any, counts: str | None, told: list[list]) -> None:
        """Take in one test.

        Args:
            report: pytest's, of a call or of what failed or skipped around it.
            counts: what its cases are counted as.
            told: what it gave to the fixture `reached`.
        """
        if report.skipped:
            self.skipped.append(str(report.longrepr[2]).removeprefix("Skipped: "))
            return
        if counts:
            self.cases[counts] += 1
            self.counted[counts] += report.passed
        if report.failed:
            self.failed.append(report.nodeid)
            return
        self.num_passed += 1
        for kind, what, value in told:
            if kind == "count":
                self.cases[what] += value
                self.counted[what] += value
            elif kind == "largest":
                self.largest[what] = max(value, self.largest.get(what, 0.0))
            elif what not in self.texts:
                self.texts.append(what)

    @property
    def figure(self) -> str:
        """What was reached, in a few words."""
        counted = [f"{self.counted[what]} of {self.cases[what]} {what}" for what in self.cases]
        errors = [f"{what} {value:.2g}" for what, value in self.largest.items()]
        return "; ".join([*counted, *errors, *self.texts])

    def is_complete(self) -> bool:
        """Whether a test ran and told a figure, or said why this machine cannot run it."""
        return not self.failed and bool(self.figure if self.num_passed else self.skipped)

    @property
    def verdict(self) -> str:
        reasons = "; ".join(sorted(set(self.skipped)))
        if self.failed:
            return f"FAILED: {', '.join(self.failed)}"
        if not self.num_passed:
            return f"not run: {reasons}" if reasons else "NO TEST"
        if not self.figure:
            return "NO FIGURE"
        return f"passed in part; not run: {reasons}" if reasons else "passed"


def table(outcomes: Mapping[int, Outcome]) -> Iterator[str]:
    """Lines of the table of all checks, in Markdown."""
    yield row(HEADER)
    yield row(["---"] * len(HEADER))
    for number, check in CHECKS.items():
        yield row((str(number), *check, outcomes[number].figure, outcomes[number].verdict))


def row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"

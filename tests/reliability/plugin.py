"""`pytest --reliability`: the long form of every test that stands for one of the thirty checks, and their table.

A test says which check it belongs to by `@pytest.mark.reliability(number)`, takes how often it repeats from the
fixture `times`, and gives what it reached to the fixture `reached`. Without the option the same tests run in their
short form, as any other. With it a check without a test, or without a figure, fails the run.
"""

import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.checks import CHECKS
from tests.reliability.outcomes import Outcome, table

MARKER = "reliability"
LIBRARIES = ("torch", "lightning", "numpy", "pillow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", action="store_true", help="the 30 reliability checks in full, with their table")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "reliability(number, counts=None, long=False): belongs to a check of tests/reliability/checks.py; its cases "
        "are counted as `counts`; a long one runs with --reliability alone",
    )
    config.pluginmanager.register(Outcomes(config), "reliability-outcomes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With the option only what is marked; without it all but what is too long."""
    chosen = config.getoption("--reliability")
    kept, left = [], []
    for item in items:
        marks = list(item.iter_markers(MARKER))
        counts = {mark.args[0]: mark.kwargs.get("counts") for mark in marks}  # a check that is named twice counts once
        item.user_properties += [(MARKER, [number, what]) for number, what in counts.items()]
        is_long = any(mark.kwargs.get("long") for mark in marks)
        (kept if (marks if chosen else not is_long) else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


@pytest.fixture(scope="session")
def times(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """Function that picks the first of two numbers of cases, or with `--reliability` the second."""
    return lambda short, long: long if pytestconfig.getoption("--reliability") else short


class Reached:
    """What a test tells the table."""

    def __init__(self, tell: Callable[[str, str, Any], None]):
        self._tell = tell

    def count(self, what: str, done: int) -> None:
        """So many cases went as promised; of all tests of the check, added up."""
        self._tell("count", what, done)

    def largest(self, what: str, value: float) -> None:
        """An error; of all tests of the check the largest."""
        self._tell("largest", what, float(value))

    def says(self, text: str) -> None:
        """Anything else."""
        self._tell("text", text, None)


@pytest.fixture
def reached(request: pytest.FixtureRequest) -> Reached:
    """What the test reached, for the table of its check."""
    return Reached(lambda *told: request.node.user_properties.append(("reached", list(told))))


class Outcomes:
    """Gathers what the reports of marked tests say, in the process that prints."""

    def __init__(self, config: pytest.Config):
        self.wanted = config.getoption("--reliability") and not hasattr(config, "workerinput")
        self.outcomes = {number: Outcome() for number in CHECKS}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            for _, (number, counts) in _properties(report, MARKER):
                self.outcomes[number].add(report, counts, [told for _, told in _properties(report, "reached")])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        complete = all(outcome.is_complete() for outcome in self.outcomes.values())
        if self.wanted and not complete and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.wanted:
            terminalreporter.section("reliability")
            for line in (*table(self.outcomes), "", describe_machine()):
                terminalreporter.write_line(line)


def _properties(report: pytest.TestReport, name: str) -> Iterator[tuple[str, Any]]:
    return (pair for pair in report.user_properties if pair[0] == name)


def describe_machine() -> str:
    """Processor, memory, system and versions, in one line."""
    processor = platform.processor() or platform.machine()
    if (information := Path("/proc/cpuinfo")).is_file():
        named = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        processor = named[0].partition(":")[2].strip() if named else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    python = platform.python_version()
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}; Python {python}, {versions}"

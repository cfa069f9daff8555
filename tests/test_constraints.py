"""The files of versions: what setup.cfg asks for is pinned within its bounds, and the oldest ones are its bounds."""

import runpy
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

FOLDER = Path(__file__).parents[1] / "constraints"
ASKED_FOR = [Requirement(line) for line in runpy.run_path(str(FOLDER / "freeze.py"))["asked_for"]()]
TOOLS = {"pytest", "pytest-cov", "pytest-xdist", "hypothesis", "pyright", "ruff", "sphinx", "myst-parser", "furo"}


def pinned(name: str) -> dict[str, Version]:
    lines = [line for line in (FOLDER / name).read_text().splitlines() if line and not line.startswith("#")]
    return {name: Version(version) for name, version in (line.split("==") for line in lines)}


@pytest.mark.parametrize("requirement", ASKED_FOR, ids=str)
def test_what_is_tested_with_is_within_the_bounds(requirement):
    assert requirement.specifier.contains(pinned("tested.txt")[requirement.name])


@pytest.mark.parametrize("requirement", [each for each in ASKED_FOR if each.name not in TOOLS], ids=str)
def test_the_oldest_versions_are_the_lower_bounds(requirement):
    bounds = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    oldest = pinned("oldest.txt")
    if requirement.name in oldest and bounds:
        assert oldest[requirement.name].release[: len(bounds[0].release)] == bounds[0].release

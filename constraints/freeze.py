"""Prints the versions that are installed here of all that setup.cfg asks for, and of what that needs.

`.venv/bin/python constraints/freeze.py > constraints/tested.txt`, after the tests have passed with them.
"""

import platform
from configparser import ConfigParser
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement

SETUP = Path(__file__).parents[1] / "setup.cfg"
PINNED_BY_TORCH = ("nvidia-", "cuda-", "triton")
"""Parts of one build of torch, which asks for them by their exact versions itself."""
NOT_INSTALLED = ("loggers", "view")
"""Extras whose packages the tests stand in for or do without: Gradio holds Pillow below the tested version."""


def asked_for() -> list[str]:
    """Requirements of setup.cfg, of the package and of all extras that the tests run with."""
    setup = ConfigParser(interpolation=None)
    setup.read(SETUP)
    extras = [lines for name, lines in setup["options.extras_require"].items() if name not in NOT_INSTALLED]
    groups = [setup["options"]["install_requires"], *extras]
    lines = [line for group in groups for line in group.splitlines()]
    return [line for line in lines if line and not line.startswith("%")]


def installed() -> dict[str, str]:
    """Name and version of everything that is needed here."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(line) for line in asked_for()]
    while waiting:
        requirement = waiting.pop()
        name, extras = requirement.name.lower().replace("_", "-"), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = version(name)
        for line in requires(name) or ():
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": each}) for each in ("", *extras)):
                waiting.append(further)
    return {name: found[name] for name in sorted(found) if not name.startswith(PINNED_BY_TORCH)}


if __name__ == "__main__":
    print(f"# What the tests passed with, Python {platform.python_version()}; written by constraints/freeze.py.")
    print("# `make demo` and `make test` install these versions; `make test CONSTRAINTS=` the newest ones.")
    for name, its_version in installed().items():
        print(f"{name}=={its_version}")

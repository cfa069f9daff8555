"""What tests of the report share."""

from functools import cache

import pytest

from tests.twostage.synthetic_sweep import add_images, synthetic_results
from twostage.graph.code_version import code_version
from twostage.report.report import write_report


@cache
def _remembered(names, folders):
    return code_version(names, dict(folders))


@pytest.fixture(autouse=True)
def _sources_that_stay(monkeypatch):
    """A plan reads all sources anew, and here many plans are made in which they are the same."""
    remember = lambda names, folders: _remembered(tuple(names), tuple(folders.items()))  # noqa: E731
    monkeypatch.setattr("twostage.parts.part.code_version", remember)


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Folder of a report of known results, the results, and its page."""
    folder = tmp_path_factory.mktemp("report")
    results = add_images(folder, synthetic_results(num_seeds=2))
    path = write_report(folder, results)
    return folder, results, path.read_text()

"""What tests of the report share."""

import pytest

from tests.twostage.synthetic_sweep import add_images, synthetic_results
from twostage.report.report import write_report


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Folder of a report of known results, the results, and its page."""
    folder = tmp_path_factory.mktemp("report")
    results = add_images(folder, synthetic_results(num_seeds=2))
    path = write_report(folder, results)
    return folder, results, path.read_text()

"""Published studies: the report.json of a sweep, as a file or one that comes with the package."""

import re
from pathlib import Path

from eqvae.commands import nearest
from twostage.analysis.records import SweepResults
from twostage.report.files import read_report
from twostage.verify.packaged import packaged_studies


def find_study(given: str | Path) -> Path:
    """The report that is meant: a packaged study's name, a report.json (or .json.gz), or the folder of one.

    Raises:
        ValueError: naming what is not there, and the studies that are most like it.
    """
    packaged = packaged_studies()
    if str(given) in packaged:
        return packaged[str(given)]
    path = Path(given)
    for inside in ("report.json", "report/report.json"):
        if (path / inside).is_file():
            return path / inside
    if path.is_file():
        return path
    if re.fullmatch(r"[\w-]+", str(given)):
        raise ValueError(f"no published study is called {given}: {nearest(str(given), packaged)}")
    raise ValueError(f"no report at {given}: give the report.json of a sweep, or one of {', '.join(packaged)}")


def read_study(path: Path) -> SweepResults:
    """What a report.json holds.

    Raises:
        ValueError: naming the file, if it is damaged, of another version, or does not say which sweep it is of.
    """
    results = read_report(path)
    if not results.sweep:
        raise ValueError(f"report {path} does not hold its sweep file: write it again with this version")
    return results

"""report.json, written and read: the results with what they say, in a form that has a schema."""

import gzip
import json
import math
import zlib
from dataclasses import asdict
from pathlib import Path

from twostage.analysis.records import START, SweepResults
from twostage.analysis.summary import Summary
from twostage.report.json_schema import SCHEMA_VERSION, SUMMARY, VERSION


def report_json(results: SweepResults, summary: Summary) -> bytes:
    """What report.json holds (docs/schemas); numbers that JSON cannot hold are null."""
    content = {SCHEMA_VERSION: VERSION} | asdict(results) | {SUMMARY: asdict(summary)}
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False).encode()


def read_report(path: Path) -> SweepResults:
    """The results of a report.json, also packed (.json.gz), of this version or an earlier one.

    Conclusions are left out: they are drawn anew.

    Raises:
        ValueError: naming the file, if it cannot be read, is damaged, or of a newer version.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        values = json.loads(content)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"report {path} is damaged: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"report {path} is no report of a sweep")
    version = str(values.pop(SCHEMA_VERSION, VERSION))
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise ValueError(f"report {path} is of version {version}, this reads {VERSION}: use the version that wrote it")
    values.pop(SUMMARY, None)
    try:
        return SweepResults.from_dict(values)
    except ValueError as error:
        raise ValueError(f"report {path}: {error}") from None


def _finite(value: object) -> object:
    """The same data with null for numbers that JSON cannot hold, and names for keys that are none."""
    if isinstance(value, dict):
        return {START if key is None else str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

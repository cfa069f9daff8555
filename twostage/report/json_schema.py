"""The JSON schema of report.json, made from the records that it is written from; docs/schemas holds it."""

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse

from twostage.analysis.records import SweepResults
from twostage.analysis.summary import Summary

VERSION = "1.2"
"""Of the schema: the first number grows where readers of before would misread, the second where keys are added."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SUMMARY, SCHEMA_VERSION = "summary", "schema_version"
SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}


def report_schema() -> dict[str, Any]:
    """The schema of version `VERSION`; reports of before had neither a version nor some of the keys, and fulfil it."""
    records: dict[str, Any] = {}
    _reference(SweepResults, records)
    _reference(Summary, records)
    report = records.pop(SweepResults.__name__)
    version = {"description": f"Of this schema, {VERSION}.", "type": "string", "pattern": r"^\d+\.\d+$"}
    report["properties"] |= {SUMMARY: _of(Summary, records), SCHEMA_VERSION: version}
    title = f"report.json of a sweep, version {VERSION}"
    return {"$schema": DIALECT, "title": title} | report | {"$defs": dict(sorted(records.items()))}


def _reference(record: type, records: dict[str, Any]) -> dict[str, Any]:
    """A reference to a record, which is described once."""
    if record.__name__ not in records:
        records[record.__name__] = {}  # taken, for records that hold themselves
        records[record.__name__] = _described(record, records)
    return {"$ref": f"#/$defs/{record.__name__}"}


def _described(record: type, records: dict[str, Any]) -> dict[str, Any]:
    """Keys of a record with what its docstring says of them; those without a default are required."""
    docstring, hints = parse(record.__doc__ or ""), get_type_hints(record)
    told = {name.strip(): each.description for each in docstring.params for name in each.arg_name.split(",")}
    properties = {}
    for each in fields(record):
        text = " ".join((told.get(each.name) or "").split())
        properties[each.name] = ({"description": text} if text else {}) | _of(hints[each.name], records)
    needed = [each.name for each in fields(record) if each.default is MISSING and each.default_factory is MISSING]
    return {
        "description": docstring.short_description,
        "type": "object",
        "properties": properties,
        "required": needed,
        "additionalProperties": False,
    }


def _of(kind: Any, records: dict[str, Any]) -> dict[str, Any]:
    """What JSON holds of a declared type."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return {}
    if kind is type(None):
        return {"type": "null"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(each, records) for each in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is list:
        return {"type": "array", "items": _of(inner[0], records)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(inner[1], records)}
    if is_dataclass(kind) and isinstance(kind, type):
        return _reference(kind, records)
    return {"type": SIMPLE[kind]}


def schema_text() -> str:
    """As the file holds it."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"

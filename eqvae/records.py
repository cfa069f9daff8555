"""Entries of records that come from files: each of the type and range that it must have, or refused by name."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Check = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and whether it is."""

LARGEST = 1 << 40

WHOLE: Check = ("a whole number above 0", lambda value: type(value) is int and 0 < value < LARGEST)
NUMBER: Check = ("a number", lambda value: type(value) in (int, float))
FINITE: Check = ("a finite number", lambda value: type(value) in (int, float) and abs(value) < float(LARGEST))
TEXT: Check = ("a text", lambda value: isinstance(value, str))
FLAG: Check = ("true or false", lambda value: type(value) is bool)
SHA256: Check = ("a sha256", lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)))
TEXTS: Check = ("a list of texts", lambda value: isinstance(value, list) and all(map(TEXT[1], value)))
WHOLES: Check = ("a list of whole numbers", lambda value: isinstance(value, list | tuple) and all(map(WHOLE[1], value)))
RECORD: Check = ("a mapping", lambda value: isinstance(value, Mapping))
LIST: Check = ("a list", lambda value: isinstance(value, list))


def one_of(values: tuple[Any, ...]) -> Check:
    """One of a few values."""
    return f"one of {', '.join(map(str, values))}", lambda value: isinstance(value, str) and value in values


def or_none(check: Check) -> Check:
    """Null, or what the check says; it must be there."""
    return f"{check[0]} or null", lambda value: value is None or check[1](value)


def require_entries(record: Any, checks: Mapping[str, Check], where: str = "") -> None:
    """Refuse a record that lacks an entry or has one of another kind; further entries are nobody's business.

    Args:
        checks: of the entries by name.
        where: the record stands in a larger one, ending in a dot.

    Raises:
        ValueError: naming the entry, what it is and what it must be.
    """
    if not RECORD[1](record):
        raise ValueError(f"{where.rstrip('.') or 'the record'} is {_short(record)}, not a mapping")
    for name, (words, is_right) in checks.items():
        if name not in record:
            raise ValueError(f"{where}{name} is missing")
        if not is_right(record[name]):
            raise ValueError(f"{where}{name} is {_short(record[name])}, not {words}")


def require_numbers(record: Mapping[str, Any], path: Path) -> None:
    """Refuse measurements of a file that are none; of a training that diverged a number may be NaN.

    Raises:
        ValueError: naming the file, and the entry that is no number.
    """
    if not record:
        raise ValueError(f"{path} holds no measurements: remove its folder and measure again")
    for name, value in record.items():
        if not NUMBER[1](value):
            raise ValueError(f"{path}: {name} is {_short(value)}, not {NUMBER[0]}: remove its folder and measure again")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

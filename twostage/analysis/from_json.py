"""Records from what JSON holds of them, by the types that they declare."""

import types
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints


def _build(kind: Any, value: Any, where: str) -> Any:
    """A value of a declared type from what JSON holds."""
    if isinstance(kind, type) and is_dataclass(kind):
        return build_record(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None and type(None) in inner else _build(inner[0], value, where)
    if origin is list and isinstance(value, list):
        return [_build(inner[0], item, f"{where}[{number}]") for number, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _build(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is not Any and not (isinstance(kind, type) and isinstance(value, kind)):
        raise ValueError(f"{where} is {value!r}, expected {getattr(kind, '__name__', kind)}")
    return value


def build_record(kind: type, value: Any, where: str) -> Any:
    """A dataclass from the values of its keys.

    Args:
        where: what the value is called in errors.

    Raises:
        ValueError: naming a key that is missing or unknown, or of another type.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}, expected the keys of {kind.__name__}")
    hints, known = get_type_hints(kind), {each.name for each in fields(kind)}
    if unknown := sorted(set(value) - known):
        raise ValueError(f"{where} has the unknown key {unknown[0]}: it is of another version")
    try:
        return kind(**{key: _build(hints[key], item, f"{where}.{key}") for key, item in value.items()})
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None

"""Options of a command from a dataclass of settings: names, types, defaults and words stand there, and only there."""

import argparse
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser

from eqvae.commands import not_among

DEVICES = ["cpu", "cuda", "mps", "xpu"]


def add_settings(
    parser: Any, kind: type, skip: Iterable[str] = (), choices: Mapping[str, Iterable[str]] | None = None
) -> None:
    """An option for each field of a dataclass; the namespace has those that are given, and no others.

    Args:
        parser: an argparse parser or a group of one.
        kind: dataclass with fields of type bool (flags), int, float, str, a Literal, a tuple of one type, or one of
            these or None; described in its docstring under Args.
        skip: fields without an option.
        choices: of fields whose type does not tell them.
    """
    words = {each.arg_name: each.description for each in docstring_parser.parse(kind.__doc__ or "").params}
    hints = get_type_hints(kind)
    for field in fields(kind):
        if field.name not in skip:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
            own = list(choices[field.name]) if choices and field.name in choices else []
            how = {"choices": own, "metavar": "NAME"} if own else {}
            how |= _action_of(hints[field.name])
            about = (words[field.name] or "").replace("\n", " ").replace("%", "%%").rstrip(".")
            about += f": {', '.join(own)}" if own else ""
            ending = "" if default is None or default is False else f" (default: {shown})"
            option = f"--{field.name.replace('_', '-')}"
            parser.add_argument(option, default=argparse.SUPPRESS, help=about + ending, **how)


def given_settings(arguments: argparse.Namespace, kind: type) -> dict[str, Any]:
    """The fields of a dataclass that were given on a command line, with their values."""
    names = [field.name for field in fields(kind) if hasattr(arguments, field.name)]
    found = {name: getattr(arguments, name) for name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _action_of(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of a type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (hint,) = (each for each in inner if each is not type(None))
        return _action_of(hint)
    if origin is Literal:
        return {"choices": list(inner)}
    if origin is tuple:
        return {"nargs": len(inner), "type": inner[0]}
    return {"action": "store_true"} if hint is bool else {"type": hint}


def choose_device(name: str | None) -> str:
    """The device that a command was told; without a word CUDA where there is one, else the processor.

    Raises:
        ValueError: naming the option, with what to give.
    """
    import torch  # here, because an option's help needs none

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not number.isdigit()):
        raise ValueError(f"--device {not_among(name, DEVICES)}")
    if kind == "cpu":
        return name
    found = getattr(torch, kind).device_count()
    if int(number or 0) >= found:
        raise ValueError(f"--device {name}: torch finds {found or 'none'} here; give --device cpu, or leave it out")
    return name

"""A user's own packages: named at the start of a command, their classes may stand in YAML and checkpoints.

A package is named by `--plugin` or in EQVAE_PLUGINS, separated by commas; processes that a command starts inherit that.
What is not named is refused before it is imported.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

VARIABLE = "EQVAE_PLUGINS"
OPTION = "--plugin"
OWN = ("eqvae", "dit", "twostage")


def plugins() -> tuple[str, ...]:
    """Names of the packages that have been named."""
    return tuple(name for name in os.environ.get(VARIABLE, "").split(",") if name)


def enable_plugins(names: Iterable[str] = ()) -> None:
    """Name packages, beside those in EQVAE_PLUGINS, and import them all; they may lie in the current folder.

    Raises:
        ValueError: naming one that is no package, is not found, or cannot be imported.
    """
    wanted = tuple(dict.fromkeys((*plugins(), *names)))
    if not wanted:
        return
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in wanted:
        _import(name)
    os.environ[VARIABLE] = ",".join(wanted)


def _import(name: str) -> None:
    if not name.isidentifier() or name in OWN:
        raise ValueError(f"{OPTION} {name}: give the name of one package or module of your own, without dots")
    if find_spec(name) is None:
        raise ValueError(f"{OPTION} {name}: there is no such package in {os.getcwd()} or on PYTHONPATH")
    try:
        importlib.import_module(name)
    except Exception as error:
        raise ValueError(f"{OPTION} {name} cannot be imported: {type(error).__name__}: {error}") from error


def take_plugins(words: list[str]) -> list[str]:
    """Enable the packages that a command line names, and give it without them.

    Raises:
        ValueError: as of `enable_plugins`, or for `--plugin` without a name.
    """
    rest, names = [], []
    left = iter(words)
    for word in left:
        option, equals, name = word.partition("=")
        if option != OPTION:
            rest.append(word)
            continue
        name = name if equals else next(left, "")
        names.append(name)
    enable_plugins(names)
    return rest


class PluginOption(argparse.Action):
    """`--plugin` among a command's options; it leaves nothing in the namespace."""

    def __init__(self, option_strings: list[str], dest: str = "", **options: object):
        words = f"package of yours whose classes may be named in YAML and checkpoints, as in {VARIABLE}; repeatable"
        super().__init__(
            option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, metavar="PACKAGE", help=words
        )

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: object = None
    ) -> None:
        enable_plugins([str(values)])


def plugin_options() -> list[str]:
    """The options that name the packages again, for a command that is written down."""
    return [f"{OPTION}={name}" for name in plugins()]


def plugin_folders() -> dict[str, Path]:
    """The folder that holds each package or module that has been named."""
    found = {}
    for name in plugins():
        spec = find_spec(name)
        assert spec is not None, "what has been named was imported"
        place, *_ = [*(spec.submodule_search_locations or ()), spec.origin]
        assert place is not None, "a module comes from a file"
        found[name] = Path(place).resolve().parent
    return found


def find_class(path: str) -> type:
    """The class of a dotted path in one of our packages or in one that has been named.

    Raises:
        ValueError: if it is in any other, which is not imported, or there is none.
    """
    module, _, name = str(path).rpartition(".")
    package = module.split(".")[0]
    if package not in (*OWN, *plugins()):
        raise ValueError(f"class {path} is not allowed: name its package at the start, {OPTION} {package or 'PACKAGE'}")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ValueError(f"there is no class {path}") from None
    if not isinstance(found, type):
        raise ValueError(f"{path} is no class")
    return found

"""Configs that build on others: `base` names what a config starts from, and everything else in it goes on top."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from eqvae.packaged import BASES, find_config
from eqvae.plain_yaml import load_plain_yaml

BASE, CLASS = "base", "class_path"


def load_config(path: str | Path) -> DictConfig:
    """The content of a YAML file on top of its bases.

    `base` is a packaged config's bare name, a path from the file's own folder, or a list of them, each on top of those
    before it. Of mappings the keys are joined, all of them. A class (`class_path`) takes another class's place whole.
    In a list of classes each goes on top of the base's of that class, and those of the base alone follow; an empty list
    leaves none. All else takes the place of the base's.

    Raises:
        ValueError: naming the file that is missing, no plain YAML (`load_plain_yaml`), or its own base.
    """
    return OmegaConf.create(load_plain_config(path))


def load_plain_config(path: str | Path) -> dict[str, Any]:
    """The same as plain values, interpolations as they are written; errors as of `load_config`."""
    return _joined(Path(path), ())


def _joined(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise ValueError(f"config {path} is its own base, by way of {above[-1]}: remove `{BASE}` from one of them")
    content, joined = _content(path), {}
    for base in _bases(path, content):
        joined = on_top(joined, _joined(base, (*above, path.resolve())))
    content.pop(BASE, None)
    return on_top(joined, content)


def _content(path: Path) -> dict[str, Any]:
    try:
        return deepcopy(_parsed(path, path.read_bytes()))
    except OSError as error:
        way_on = "give the path of a YAML file, or a packaged config's name"
        raise ValueError(f"config {path} cannot be read: {error.strerror}: {way_on}") from None


@cache
def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    """A sweep reads the same few files for every arm and seed, and YAML is slow; a changed one is read again."""
    plain = OmegaConf.to_container(load_plain_yaml(path))
    assert isinstance(plain, dict), "keys with values are read from files"
    return {str(key): value for key, value in plain.items()}


def _bases(path: Path, content: dict[str, Any]) -> list[Path]:
    names = content.get(BASE, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"config {path}: {BASE} {names} is neither a config's name or path nor a list of them")
    try:
        return [find_config(path.parent / name if "." in name or "/" in name else name, BASES) for name in names]
    except ValueError as error:
        raise ValueError(f"config {path}: {BASE}: {error}") from None


def on_top(base: Any, value: Any) -> Any:
    """A value of a config where the base has another, by the rules of `load_config`."""
    if isinstance(base, dict) and isinstance(value, dict):
        if CLASS in base and value.get(CLASS, base[CLASS]) != base[CLASS]:
            return value
        return base | {key: on_top(base[key], value[key]) if key in base else value[key] for key in value}
    if isinstance(base, list) and isinstance(value, list) and _are_classes(base) and _are_classes(value):
        below = {entry[CLASS]: entry for entry in base}
        return [on_top(below.pop(entry[CLASS], None), entry) for entry in value] + list(below.values())
    return value


def _are_classes(entries: list[Any]) -> bool:
    """Whether there are any, and all are classes, each another one."""
    names = [entry.get(CLASS) if isinstance(entry, dict) else None for entry in entries]
    return bool(names) and None not in names and len(set(names)) == len(names)

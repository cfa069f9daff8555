"""Configs of `train.py` as plain values: loaded with overrides, resolved, flattened, and filled in with folders."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from twostage.packaged import TRAINING, find_config

NODE = "{node}"
"""Stands for the node's own folder in its settings; `{role}` for the folder of the input with that role."""


def load_config(path: str | Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """A config of `train.py` with dotted overrides, interpolations resolved.

    Args:
        path: of a YAML file, or the name of a packaged one.

    Raises:
        ValueError: naming the file that is missing or cannot be read.
    """
    path = find_config(path, TRAINING)
    if not path.is_file():
        raise ValueError(f"no file at {path}")
    try:
        config = deepcopy(_parsed(path.read_text()))
        for key, value in overrides.items():
            OmegaConf.update(config, key, value, merge=False)
        return OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None


@cache
def _parsed(text: str) -> DictConfig:
    """A plan reads the same few files for every arm and seed, and YAML is slow."""
    return OmegaConf.load(StringIO(text))


def common_overrides(seed: int) -> dict[str, Any]:
    """What every training of a sweep has: its seed, and its own folder."""
    seeds = dict.fromkeys(("seed_everything", "model.init_args.seed", "data.init_args.seed"), seed)
    return seeds | {"trainer.default_root_dir": NODE}


def value_at(config: dict[str, Any], key: str, default: Any = None) -> Any:
    """The value under a dotted key, or the default."""
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            return default
        config = config[part]
    return config


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf of nested dictionaries; an empty one is a leaf."""
    if not isinstance(value, dict) or not value:
        yield prefix, value
        return
    for key, inner in value.items():
        yield from flatten(inner, f"{prefix}.{key}" if prefix else key)


def fill_folders(value: Any, folders: dict[str, Path]) -> Any:
    """The same nested values with `{name}` at the start of a text replaced by the folder of that name."""
    if isinstance(value, dict):
        return {key: fill_folders(inner, folders) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill_folders(inner, folders) for inner in value]
    for name, folder in folders.items() if isinstance(value, str) else ():
        if value.startswith(f"{{{name}}}"):
            return str(folder) + value.removeprefix(f"{{{name}}}")
    return value

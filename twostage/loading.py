"""Reads a sweep file and refuses it, with the line of every mistake, before anything runs."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dit.samplers.settings import SamplingSettings
from eqvae.commands import nearest
from eqvae.errors import first_line
from eqvae.packaged import SWEEPS, find_config, packaged_configs
from eqvae.plain_yaml import load_plain_yaml
from twostage.checks import config_problems, data_problems, problems
from twostage.schema import Sweep

SAMPLING_KEY = "evaluation.sampling"
SAMPLING = {field.name for field in fields(SamplingSettings)}
"""Keys that belong there."""


def load_sweep(path: str | Path, overrides: list[str], to_run: bool = False) -> Sweep:
    """Read and check a sweep file.

    Args:
        path: of a YAML file, or the name of a packaged one.
        overrides: `key=value` in OmegaConf's dotted notation.
        to_run: also have `train.py` read the configs, and look for autoencoders and images: a sweep can be planned
            without them, and not run.

    Raises:
        ValueError: naming the file, the line and the key that is unknown, missing or impossible.
    """
    path = find_config(path, SWEEPS)
    if not path.is_file():
        raise ValueError(f"no sweep file at {path}: give one, or {nearest(path.stem, packaged_configs(SWEEPS))}")
    loaded, places = load_plain_yaml(path, "sweep file"), Places(path, overrides)
    try:
        merged = _merged(loaded, overrides, places)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ValueError(f"{places.of(missing[0])}: lacks {', '.join(missing)}")
        OmegaConf.resolve(merged)
    except OmegaConfBaseException as error:
        key, message = error.full_key or "", str(error).splitlines()[0]
        hint = "; it stands under `sampling` beside it" if key.rpartition(".")[2] in SAMPLING else ""
        raise ValueError(f"{places.of(key)}: {message}{hint}") from None
    try:
        sweep = OmegaConf.to_object(merged)
    except ValueError as error:
        raise ValueError(f"{places.of(SAMPLING_KEY)}: {SAMPLING_KEY}: {error}") from None
    assert isinstance(sweep, Sweep)
    found = problems(sweep)
    if to_run and not found:
        found = data_problems(sweep) or config_problems(sweep)
    if found:
        raise ValueError("; ".join(f"{places.of(key)}: {key}: {problem}" for key, problem in dict.fromkeys(found)))
    return sweep


def _merged(loaded: DictConfig, overrides: list[str], places: "Places") -> DictConfig:
    """The keys of a sweep with their values; ValueError naming the key that holds a list in place of a mapping."""
    schema = OmegaConf.structured(Sweep)
    try:
        merged = OmegaConf.merge(schema, loaded, OmegaConf.from_dotlist(overrides))
        assert isinstance(merged, DictConfig)
        return merged
    except (TypeError, OmegaConfBaseException) as error:
        if getattr(error, "full_key", None):
            raise
        for key in loaded:
            _merge_alone(schema, loaded, key, places)
        problem = "a value is of another kind than its key"
        raise ValueError(f"command line, {' '.join(overrides)}: {problem} ({first_line(error)})") from None


def _merge_alone(schema: DictConfig, loaded: DictConfig, key: Any, places: "Places") -> None:
    """Find the key that cannot be merged: OmegaConf does not always say it."""
    try:
        OmegaConf.merge(schema, {key: loaded._get_node(key)})
    except (TypeError, OmegaConfBaseException) as error:
        where = getattr(error, "full_key", None) or str(key)
        raise ValueError(f"{places.of(where)}: {where}: {first_line(error)}") from None


class Places:
    """Where a key of a sweep stands: "sweep file F, line N", or "command line"."""

    def __init__(self, path: str | Path, overrides: list[str]):
        self.path = path
        self.overridden = [override.split("=", 1)[0] for override in overrides]

    def of(self, key: str) -> str:
        if any(key == other or key.startswith(f"{other}.") for other in self.overridden):
            return f"command line, {key}"
        return f"sweep file {self.path}, line {self._line(key)}"

    def _line(self, key: str) -> int:
        """Line of the deepest part of a dotted key that the file has; keys of `overrides` hold dots themselves."""
        node, line = yaml.compose(Path(self.path).read_bytes(), Loader=yaml.SafeLoader), 1
        while isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if key == name.value or key.startswith((f"{name.value}.", f"{name.value}[")):
                    key, node, line = key[len(name.value) + 1 :], value, name.start_mark.line + 1
                    break
            else:
                break
        return line

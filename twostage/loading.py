"""Reads a sweep file and refuses it, with the line of every mistake, before anything runs."""

from dataclasses import fields
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dit.samplers.settings import SamplingSettings
from eqvae.plain_yaml import require_plain_yaml
from twostage.checks import config_problems, data_problems, problems
from twostage.packaged import SWEEPS, find_config
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
        raise ValueError(f"no sweep file at {path}")
    require_plain_yaml(path, "sweep file")
    places = Places(path, overrides)
    try:
        loaded = OmegaConf.load(path)
        merged = OmegaConf.merge(OmegaConf.structured(Sweep), loaded, OmegaConf.from_dotlist(overrides))
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
    found = problems(sweep)
    if to_run and not found:
        found = data_problems(sweep) or config_problems(sweep)
    if found:
        raise ValueError("; ".join(f"{places.of(key)}: {key}: {problem}" for key, problem in dict.fromkeys(found)))
    return sweep


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

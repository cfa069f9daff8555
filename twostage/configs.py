"""Configs of `train.py` as plain values: loaded with overrides, resolved, flattened, and filled in with folders."""

import pickle
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eqvae import bases
from eqvae.packaged import TRAINING, find_config
from eqvae.records import RECORD, TEXT, WHOLE, Check, or_none, require_entries

CLASS: Check = ("a class path or a mapping", lambda value: isinstance(value, str | dict))
SIZE: Check = ("a whole number above 0, or auto", lambda value: value == "auto" or WHOLE[1](value))
READ = {  # by a plan and its estimates, where a config has it
    **dict.fromkeys(("trainer", "model", "model.init_args", "data", "data.init_args"), RECORD),
    **dict.fromkeys(("model.class_path", "data.class_path"), TEXT),
    "trainer.max_steps": ("a whole number", lambda value: type(value) is int and value >= 0),
    "data.init_args.global_batch_size": WHOLE,
    "data.init_args.evaluation_batch_size": WHOLE,
    "data.init_args.train": RECORD,
    "data.init_args.validation": or_none(RECORD),
    **dict.fromkeys(("model.init_args.backbone", "model.init_args.objective"), CLASS),
    **dict.fromkeys(("model.init_args.backbone.class_path", "model.init_args.objective.class_path"), TEXT),
    **dict.fromkeys(("model.init_args.backbone.init_args", "model.init_args.objective.init_args"), RECORD),
    **dict.fromkeys(
        ("model.init_args.backbone.init_args.in_channels", "model.init_args.backbone.init_args.input_size"), SIZE
    ),
}
READ_OF_SOURCES = {
    "source": RECORD,
    "init_args": RECORD,
    "root": TEXT,
    "files": TEXT,
    "num_images": WHOLE,
    "max_images": or_none(WHOLE),
}
OF_THE_COMMAND = ("ckpt_path", "weights_only", "resume", "overwrite", "previews", "logger")
"""Options of `train.py fit` in the config that it leaves in a run's folder: not of the training, which a sweep runs."""
ABSENT = object()
NODE = "{node}"
"""Stands for the node's own folder in its settings; `{role}` for the folder of the input with that role."""


def resolved_config(path: str | Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """A config of `train.py` with dotted overrides, interpolations resolved.

    Args:
        path: of a YAML file, such as one that a run has left in its folder, or the name of a packaged one.

    Raises:
        ValueError: naming the file that is missing or cannot be read.
    """
    path = find_config(path, TRAINING)
    if not path.is_file():
        raise ValueError(f"no file at {path}")
    try:
        return pickle.loads(_resolved(pickle.dumps((bases.load_plain_config(path), overrides))))
    except OmegaConfBaseException as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None


@lru_cache(maxsize=1024)
def _resolved(pickled: bytes) -> bytes:
    """The resolved config of a pickled pair of content and overrides: a plan asks for the same ones many times."""
    content, overrides = pickle.loads(pickled)
    config = OmegaConf.create(content)
    for key, value in overrides.items():
        OmegaConf.update(config, key, value, merge=False)
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict), "keys with values are read from files"
    named = {str(key): value for key, value in plain.items() if key not in OF_THE_COMMAND}
    if value_at(named, "trainer.default_root_dir") == NODE:
        _move_into_node(named["trainer"])
    return pickle.dumps(named)


def _move_into_node(trainer: dict[str, Any]) -> None:
    """Checkpoints and logs lie in the node's folder, also where a config names another, as one left by a run does.

    Else all trainings of a sweep would write into one folder, where none looks for the checkpoint it goes on from.
    """
    for key, name, folder in (("callbacks", "dirpath", f"{NODE}/checkpoints"), ("logger", "save_dir", NODE)):
        entries = trainer.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            arguments = entry.get("init_args") if isinstance(entry, dict) else None
            if isinstance(arguments, dict) and arguments.get(name) is not None:
                arguments[name] = folder


def require_readable(config: dict[str, Any]) -> None:
    """Refuse a config in which something that a sweep reads is of another kind; all else `train.py` checks.

    Classes are read, too: the sources of those that a config names in full count in the address of its part.

    Raises:
        ValueError: naming the key.
    """
    _require_full_paths(config, "")
    for key, check in READ.items():
        value = value_at(config, key, ABSENT)
        if value is not ABSENT:
            require_entries({key: value}, {key: check})
    for name in ("train", "validation"):
        _require_source(value_at(config, f"data.init_args.{name}"), f"data.init_args.{name}.")


def _require_full_paths(value: Any, where: str) -> None:
    """Refuse classes by their short names, which `train.py` alone takes."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, inner in value.items() if isinstance(value, dict) else ():
        place = f"{where}.{key}" if where else str(key)
        if key == "class_path" and isinstance(inner, str) and "." not in inner:
            raise ValueError(f"{place} {inner}: give its whole path, as eqvae.regularizers.ScaleEquivariance")
        _require_full_paths(inner, place)


def _require_source(source: dict[str, Any] | None, where: str) -> None:
    if source is None:
        return
    require_entries(source, {name: READ_OF_SOURCES[name] for name in ("init_args",) if name in source}, where)
    settings = source.get("init_args", {})
    inner = f"{where}init_args."
    require_entries(settings, {name: check for name, check in READ_OF_SOURCES.items() if name in settings}, inner)
    _require_source(settings.get("source"), f"{inner}source.")


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

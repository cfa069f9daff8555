"""Settings of a run, kept in its checkpoints: what changes when it is resumed is said, and is applied or refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from eqvae.training.checkpoints import read_part

SETTINGS = "settings"  # key of a checkpoint
NAME = "config"  # of the settings: the name of the file they were read from
PARTS = ("seed_everything", "trainer", "model", "data")
REFUSED = (
    (r"model\.class_path|data\.class_path|model\.init_args\.objective\.class_path", "that is another run"),
    (r"model\.init_args\.backbone\b(?!\.init_args\.gradient_checkpointing$).*", "the network cannot change"),
    (r"model\.init_args\.trainable", "the optimizer has a state of what was trained alone"),
    (r"seed_everything", "it seeded the start weights alone"),
)
"""Keys that cannot change while a run goes on, and why; all others are applied."""
FOLDERS = r"trainer\.default_root_dir|trainer\.logger\..*|trainer\.callbacks\.\d+\.init_args\.dirpath"
"""Keys of a run's own folders, which may have moved."""


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """What counts of a resolved config of `train.py`."""
    return {part: config[part] for part in PARTS if part in config}


def changes(before: Any, after: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old, new) of every value that differs; what one side does not know is left out."""
    if isinstance(before, dict) and isinstance(after, dict) and before.get("class_path") == after.get("class_path"):
        for name in before.keys() & after.keys():
            yield from changes(before[name], after[name], f"{key}.{name}" if key else name)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after) and _has_dict(before):
        for index, pair in enumerate(zip(before, after)):
            yield from changes(*pair, f"{key}.{index}")
    elif before != after:
        yield (f"{key}.class_path" if _is_other_class(before, after) else key), _short(before), _short(after)


def require_resumable(path: str | Path, settings: dict[str, Any], module: nn.Module) -> list[str]:
    """Compare a checkpoint with the run that is to go on from it.

    Returns:
        What changes, "learning_rate 0.1 -> 0.2" in full keys, sorted; all of it is applied.

    Raises:
        ValueError: naming what cannot change: a setting, or a weight that the network has and the checkpoint has not.
    """
    recorded = read_part(path, SETTINGS) or {}
    found = [change for change in changes(recorded, settings) if not re.fullmatch(FOLDERS, change[0])]
    found.sort(key=lambda change: change[0])
    for key, old, new in found:
        for pattern, reason in REFUSED:
            if re.fullmatch(pattern, key):
                raise ValueError(f"{key} {old} -> {new}: {reason}. Set it back, or begin anew in another folder")
    require_same_network(path, module)
    return [f"{key} {old} -> {new}" for key, old, new in found]


def require_same_network(path: str | Path, module: nn.Module) -> None:
    """Refuse a checkpoint of another network.

    Raises:
        ValueError: naming the file and the first weights that are missing, unknown or of another shape.
    """
    stored = {name: tuple(value.shape) for name, value in (read_part(path, "state_dict") or {}).items()}
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name, shape in wanted.items():
        if stored.get(name, shape) != shape:
            raise ValueError(f"checkpoint {path} is of another network: {name} is {stored[name]} there, {shape} here")
    missing, unknown = (
        next((name for name in a if name not in b), None) for a, b in ((wanted, stored), (stored, wanted))
    )
    if missing or unknown:
        which = [f"{name} is only {where}" for name, where in ((unknown, "there"), (missing, "here")) if name]
        raise ValueError(f"checkpoint {path} is of another network: {', '.join(which)}")


def _has_dict(values: list) -> bool:
    return any(isinstance(value, dict) for value in values)


def _is_other_class(before: Any, after: Any) -> bool:
    return all(isinstance(value, dict) and "class_path" in value for value in (before, after))


def _short(value: Any) -> Any:
    """A class by its path, anything else as it is."""
    return value["class_path"] if isinstance(value, dict) and "class_path" in value else value

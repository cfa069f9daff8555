"""What can be wrong with the configs and the data of a sweep, found before anything runs."""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from dit.sweeps.configs import flatten, load_config
from dit.sweeps.schema import SINGLE_FILES, Arm, Sweep, parts
from eqvae.training.cli import TrainCLI, one_line


def check_configs(sweep: Sweep) -> None:
    """Have the parser of `train.py` read every config with its overrides, without building anything.

    Raises:
        ValueError: naming the part of the sweep file, its config, and the parser's complaint.
    """
    for key, part in parts(sweep).items():
        options = [f"--{name}={_text(value)}" for name, value in part.overrides.items()]
        complaint = io.StringIO()
        with (
            contextlib.redirect_stderr(complaint),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(action="ignore"),  # that this process has arguments of its own
        ):
            try:
                TrainCLI(["fit", "--config", part.config, *options, "--print_config"])
            except SystemExit as stop:
                if stop.code == 0:
                    continue
        raise ValueError(f"{key}: {part.config} with its overrides: {one_line(complaint.getvalue())}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def check_data(sweep: Sweep) -> None:
    """Look for the folders and files of the arms' pictures.

    Raises:
        ValueError: naming the part of the sweep file, the key of its config, and the folder or pattern.
    """
    arms = sweep.autoencoders.items()
    single = {"start": sweep.start, **{f"autoencoders.{name}": arm for name, arm in arms}}
    missing = [
        f"{key}.autoencoder: no file at {part.autoencoder}"
        for key, part in single.items()
        if (part.autoencoder or "").endswith(SINGLE_FILES) and not Path(part.autoencoder).is_file()
    ]
    changes = sweep.generator_pictures
    missing += [problem for name, arm in arms for problem in _missing_data(f"autoencoders.{name}", arm, {})]
    missing += [
        problem for name, arm in arms if changes for problem in _missing_data("generator_pictures", arm, changes)
    ]
    if missing:
        raise ValueError("; ".join(dict.fromkeys(missing)))


def _missing_data(key: str, arm: Arm, changes: dict[str, Any]) -> Iterator[str]:
    for name, value in flatten(load_config(arm.config, arm.overrides | changes)["data"]):
        is_folder = name.endswith("init_args.root")
        if is_folder and not _is_readable(Path(value)):
            yield f"{key}: {arm.config}, data.{name}: no readable folder at {value}"
        if name.endswith("init_args.files") and isinstance(value, str) and not glob(value):
            yield f"{key}: {arm.config}, data.{name}: no file matches {value}"


def _is_readable(folder: Path) -> bool:
    try:
        return folder.is_dir() and any(True for _ in folder.iterdir())
    except OSError:
        return False

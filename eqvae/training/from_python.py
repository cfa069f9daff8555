"""What `train.py` does, asked for from Python: a recipe by its name, and what is to differ."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from eqvae.commands import install_handlers
from eqvae.packaged import find_config
from eqvae.training.cli import TrainCLI
from eqvae.training.signals import SIGNALS

INTERRUPTED = 128 + signal.SIGINT


def run_training(
    command: str, config: str | Path, folders: tuple[str, ...], settings: Mapping[str, Any], *flags: str
) -> TrainCLI:
    """`train.py COMMAND --config CONFIG`, in this process and to its end.

    Args:
        command: "fit", "validate", "test" or "predict".
        config: a packaged config's name, or the path of one.
        folders: those whose packaged configs are meant, see `find_config`.
        settings: dotted keys of the config, and what they are to be; plain values, lists and mappings of them.
        flags: options without a value, such as "--resume".

    Raises:
        ValueError: in one line, as the command does: an unknown key, a value of another type, a folder in use.
        KeyboardInterrupt: where it was interrupted; a training has saved its state then, and `resume` goes on.
    """
    options = [f"--{key}={_text(value)}" for key, value in settings.items()]
    with _interruptible():
        return TrainCLI([command, "--config", str(find_config(config, folders)), *options, *flags])


@contextmanager
def _interruptible() -> Iterator[None]:
    """A command ends its process; a notebook or program goes on, with the signal handlers it had."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            raise KeyboardInterrupt from None
        raise
    finally:
        install_handlers({number: handler for number, handler in before.items() if handler is not None})


def _text(value: Any) -> str:
    """A value as a command line has it; texts and paths go as they are."""
    if isinstance(value, str | Path):
        return str(value)
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not None: where a function's argument is left out, the config's own value stays."""
    return {key: value for key, value in settings.items() if value is not None}


def begin_flags(resume: bool, overwrite: bool) -> list[str]:
    """The options of `fit` that say what to do with a run that is there already."""
    return [f"--{name}" for name, is_asked in (("resume", resume), ("overwrite", overwrite)) if is_asked]

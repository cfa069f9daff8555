"""What every command does at its top: signals end it, an error is one line, and its trace is kept in a file."""

import argparse
import difflib
import errno
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from eqvae.files import write_atomically
from eqvae.heap import keep_freed_memory
from eqvae.plugins import OPTION, PluginOption, take_plugins

OURS = ("eqvae", "dit", "twostage")
ROOT = Path(__file__).resolve().parents[1]
MAXIMUM_LENGTH = 600  # characters of a library's message
MAXIMUM_CHOICES = 16
KEPT_LOGS = 20
UNUSABLE = {
    errno.ENOTDIR: "lies below a file: give another place",
    errno.EEXIST: "is a file, and a folder is wanted there: give another place",
    errno.EISDIR: "is a folder, and a file is wanted there: give another place",
    errno.EACCES: "may not be used: change its permissions, or give another place",
    errno.EPERM: "may not be used: change its permissions, or give another place",
    errno.EROFS: "lies where nothing can be written: give another place",
}
"""What a user does about a path that the system refuses."""


def run_command(command: Callable[[], None]) -> None:
    """Run a script's main: whatever goes wrong becomes one line and exit code 1.

    The trace of an error that is not one of ours goes into a file, which the line names. EQVAE_DEBUG=1 shows the trace
    of any error. SIGTERM and SIGINT end the command with 143 and 130. Packages named by `--plugin` are there from its
    first line on. A warning is one line, too.
    """
    keep_freed_memory()
    try:
        with ending_at_once(), warnings_in_one_line():
            sys.argv[1:] = take_plugins(sys.argv[1:])
            command()
    except Exception as error:
        if os.environ.get("EQVAE_DEBUG"):
            raise
        print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(1)


def describe(error: Exception) -> str:
    """One line: our own message as it is, and what a path that cannot be used is.

    Of any other error its message and the file with its trace.
    """
    message = one_line(str(error))
    if isinstance(error, ValueError) and _is_ours(error):
        return message
    if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename is not None:
        return f"{error.filename} {UNUSABLE[error.errno]}"
    if not isinstance(error, ValueError | OSError | RuntimeError) or not message:
        message = f"{type(error).__name__}: {message}"
    message = message if len(message) <= MAXIMUM_LENGTH else message[:MAXIMUM_LENGTH] + "..."
    return f"{message} ({_keep_trace(error)})"


def one_line(message: str) -> str:
    """A message without its line breaks; of another process's trace the last line, which says what went wrong."""
    if "Traceback (most recent call last)" in message:
        message = re.sub(r"^[\w.]+: ", "", message.strip().splitlines()[-1])
    return " ".join(message.split())


def _is_ours(error: BaseException) -> bool:
    """Whether this project's code raised an error itself, and says in it what to do."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not (frames[-1].line or "raise").startswith("raise"):
        return False
    path = Path(frames[-1].filename).resolve()
    return any(path.is_relative_to(ROOT / package) for package in OURS)


def _keep_trace(error: Exception) -> str:
    """Write the trace of an error where the user's programs keep their state, and say where."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    trace = "".join(traceback.format_exception(error))
    content = f"{shlex.join(sys.argv)}\nin {os.getcwd()}, Python {sys.version}\n\n{trace}"
    for folder in (Path(state) / "eqvae", Path(tempfile.gettempdir()) / "eqvae"):
        with suppress(OSError):
            write_atomically(folder / name, content.encode())
            for old in sorted(folder.glob("error-*.log"))[:-KEPT_LOGS]:
                old.unlink(missing_ok=True)
            return f"trace in {folder / name}"
    return "its trace could not be written; EQVAE_DEBUG=1 shows it"


def nearest(word: str, choices: Iterable[str]) -> str:
    """Advice for a word that is none of the choices: the one that is most like it, or all where there are few."""
    choices = list(choices)
    if found := _closest(word, choices):
        return f"did you mean {found}?"
    more = " ..." if len(choices) > MAXIMUM_CHOICES else ""
    return f"use one of {', '.join(choices[:MAXIMUM_CHOICES])}{more}" if choices else "remove it"


def not_among(value: str, choices: list[str]) -> str:
    """That a value is none of the few that there are, and which of them is most like it."""
    found = _closest(value, choices)
    return f"{value} is none of {', '.join(choices)}" + (f": did you mean {found}?" if found else "")


def _closest(word: str, choices: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, choices, n=1, cutoff=0.6)), None)


class CommandParser(argparse.ArgumentParser):
    """Parser of a script's options: what is wrong is a ValueError of one line, with the nearest option or choice."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.add_argument(OPTION, action=PluginOption)

    def error(self, message: str) -> NoReturn:
        subparsers = [each for each in self._actions if isinstance(each, argparse._SubParsersAction)]
        parsers = [self, *(parser for each in subparsers for parser in each.choices.values())]
        options = dict.fromkeys(option for parser in parsers for option in parser._option_string_actions)
        if subparsers and message == f"the following arguments are required: {subparsers[0].dest}":
            raise ValueError(f"give one of {', '.join(subparsers[0].choices)}")
        raise ValueError(explain_arguments(message, options))


def explain_arguments(message: str, options: Iterable[str]) -> str:
    """What argparse says of a command line, with the nearest of its options or choices."""
    if unknown := re.match(r"unrecognized arguments: (\S+?)(?:=|\s|$)", message):
        if not unknown[1].startswith("-"):
            example = f"--config {unknown[1]}" if "--config" in options else f"--NAME {unknown[1]}"
            return f"{unknown[1]} is not expected: it is a value without its option, such as {example}"
        return f"{unknown[1]} is unknown: {nearest(unknown[1], options)}"
    if wrong := re.match(r"argument (.+?): invalid (int|float) value: (.*)", message):
        return f"{wrong[1]}: {wrong[3]} is no {'whole ' * (wrong[2] == 'int')}number: give one"
    if lacking := re.match(r"argument (\S+?): expected one argument", message):
        return f"{lacking[1]} needs a value; one that begins with a minus is written {lacking[1]}=VALUE"
    if choice := re.match(r"argument (.+?): invalid choice: (\S+) \(choose from (.*)\)", message):
        word, choices = choice[2].strip("'\""), [each.strip(" '\"") for each in choice[3].split(",")]
        return f"{choice[1]}: {not_among(word, choices)}"
    return one_line(message)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Warnings that come up meanwhile are shown by what they say, without the line of code that gave them."""
    before = warnings.showwarning
    warnings.showwarning = lambda message, *about: print(f"warning: {one_line(str(message))}", file=sys.stderr)
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def ending_at_once() -> Iterator[None]:
    """SIGTERM and SIGINT end what runs meanwhile with 143 and 130, cleaning up; SIGUSR1 goes unheeded."""
    before = install_handlers(AT_ONCE)
    try:
        yield
    finally:
        install_handlers(before)


def install_handlers(handlers: dict[int, Any]) -> dict[int, Any]:
    """Install signal handlers, which only the main thread may; returns those from before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


def exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


AT_ONCE: dict[int, Any] = {signal.SIGTERM: exit_at_once, signal.SIGINT: exit_at_once, signal.SIGUSR1: signal.SIG_IGN}

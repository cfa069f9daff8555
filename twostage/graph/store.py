"""A node's folder in the store: done once, by one process at a time, whole or not at all."""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from eqvae.commands import one_line
from eqvae.files import write_atomically
from twostage.plan import Node

DONE, FAILED, LOG, LOCK = "done.json", "failed.json", "log.txt", ".lock"
LAST_LINES = 8
EXITS_OF_SIGNALS = 128

Progress = Callable[[int, int, int], None]
"""Told how many units of how many are done, and how many images went through so far."""

Work = Callable[[str, Path, dict[str, Any], dict[str, Path], Progress], None]
"""Does a node: kind, folder, settings, input folders by role, progress."""


@dataclass(frozen=True)
class Task:
    """A node as a worker sees it: plain values and folders."""

    name: str
    kind: str
    address: str
    folder: Path
    settings: dict[str, Any]
    inputs: dict[str, Path]

    @classmethod
    def of(cls, node: Node, root: Path) -> "Task":
        inputs = {role: other.folder(root).resolve() for role, other in node.inputs.items()}
        return cls(node.name, node.kind, node.address, node.folder(root).resolve(), node.settings, inputs)

    @property
    def log(self) -> Path:
        return self.folder / LOG


@dataclass(frozen=True)
class Outcome:
    """How a task ended: "done", "failed" (with the reason), or "busy", another process being at it."""

    address: str
    state: str
    error: str = ""


def is_done(node: Node, root: Path) -> bool:
    return (node.folder(root) / DONE).is_file()


def has_failed(node: Node, root: Path) -> bool:
    return (node.folder(root) / FAILED).is_file()


def seconds_of(node: Node, root: Path) -> float:
    """How long a finished node took, in the attempt that finished it."""
    return json.loads((node.folder(root) / DONE).read_text())["seconds"]


def do_task(task: Task, work: Work, progress: Progress, wait: bool = False) -> Outcome:
    """Do a node in its folder unless it is done; "done.json" is written last, "failed.json" when it raises.

    Args:
        wait: for another process that is at it; otherwise it is "busy".
    """
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{task.folder}{LOCK}", timeout=-1 if wait else 0)
    try:
        with lock:
            return _do_locked(task, work, progress)
    except Timeout:
        return Outcome(task.address, "busy")


def _do_locked(task: Task, work: Work, progress: Progress) -> Outcome:
    if (task.folder / DONE).is_file():
        return Outcome(task.address, "done")
    task.folder.mkdir(exist_ok=True)
    (task.folder / FAILED).unlink(missing_ok=True)
    started = time.perf_counter()
    with logged(task.log):
        try:
            work(task.kind, task.folder, task.settings, task.inputs, progress)
        except (Exception, SystemExit) as error:  # a parser exits; whatever it is, the other nodes go on
            if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > EXITS_OF_SIGNALS:
                raise  # a training that a signal ended has kept a checkpoint; it is no failure
            traceback.print_exc()
            reason = one_line(str(error)) or type(error).__name__
            _write(task.folder / FAILED, {"name": task.name, "kind": task.kind, "error": reason})
            return Outcome(task.address, "failed", reason)
    made_from = {role: folder.name for role, folder in task.inputs.items()}
    record = {"seconds": time.perf_counter() - started, "kind": task.kind, "inputs": made_from}
    _write(task.folder / DONE, record | {"settings": task.settings})
    return Outcome(task.address, "done")


def last_lines(task: Task) -> list[str]:
    """The end of a task's log."""
    try:
        return task.log.read_text(errors="replace").rstrip().splitlines()[-LAST_LINES:]
    except OSError:
        return []


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Send what this process prints, libraries included, into a file."""
    saved = os.dup(1), os.dup(2)
    with open(path, "a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            for number, original in enumerate(saved, start=1):
                os.dup2(original, number)
                os.close(original)


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2, default=str) + "\n").encode())

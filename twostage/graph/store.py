"""A node's folder in the store: done once, by one process at a time, whole or not at all."""

import json
import math
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eqvae.files import TEMPORARY_PREFIX, sha256_of_file
from eqvae.hashes import read_json, write_json
from eqvae.locks import Held, Lock
from twostage.graph.node import Node, Progress, Work

DONE, FAILED, LOG, LOCK = "done.json", "failed.json", "log.txt", ".lock"
LAST_LINES = 8
EXITS_OF_SIGNALS = 128
SMALL_BYTES = 1 << 20  # of files that are read through whenever a sweep is started
HASHED_BYTES = 1 << 28  # larger files carry their own hash: checkpoints inside, shards in their manifest


@dataclass(frozen=True)
class Task:
    """A node as a worker sees it: plain values and folders.

    Args:
        libraries: releases of what the work is done with; kept in the record of a finished node.
    """

    name: str
    kind: str
    address: str
    folder: Path
    settings: dict[str, Any]
    inputs: dict[str, Path]
    trains: bool = False
    libraries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Node, root: Path, libraries: Mapping[str, str] | None = None) -> "Task":
        inputs = {role: other.folder(root).resolve() for role, other in node.inputs.items()}
        folder = node.folder(root).resolve()
        return cls(node.name, node.kind, node.address, folder, node.settings, inputs, node.trains, libraries or {})

    @property
    def log(self) -> Path:
        return self.folder / LOG


@dataclass(frozen=True)
class Outcome:
    """How a task ended: "done", "failed" (with the reason), or "busy" (with the process that is at it)."""

    address: str
    state: str
    error: str = ""


def is_done(node: Node, root: Path) -> bool:
    return (node.folder(root) / DONE).is_file()


def has_failed(node: Node, root: Path) -> bool:
    return (node.folder(root) / FAILED).is_file()


def failure_of(node: Node, root: Path) -> str:
    """Why a node failed, as it was recorded."""
    return _reason(node.folder(root))


def _reason(folder: Path) -> str:
    try:
        return read_json(folder / FAILED)["error"]
    except (ValueError, KeyError):
        return "see its log"


def record_of(node: Node, root: Path) -> dict[str, Any]:
    """What is known of a finished node.

    `seconds` of the attempt that finished it, `settings`, `inputs`, `files` (their hashes) and the releases of the
    `libraries` it was done with.

    Raises:
        ValueError: naming the record, if it is damaged.
    """
    return read_json(node.folder(root) / DONE)


def damage(node: Node, root: Path, thorough: bool = False) -> str | None:
    """What is wrong with a finished node's files, in words; None where nothing is.

    Args:
        thorough: read all files that have a hash in the record; otherwise only small ones, and of others the size.
    """
    folder = node.folder(root)
    try:
        files = record_of(node, root)["files"]
    except (ValueError, KeyError) as error:
        return str(error)
    for name, about in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != about["size"]:
            return f"{path} is damaged: it has {path.stat().st_size} bytes, not {about['size']}"
        read = about["sha256"] is not None and (thorough or about["size"] <= SMALL_BYTES)
        if read and sha256_of_file(path) != about["sha256"]:
            return f"{path} is damaged: its sha256 is not the recorded one"
    return None


def forget(node: Node, root: Path) -> None:
    """Take a node for not done; what lies in its folder is kept, to go on from."""
    (node.folder(root) / DONE).unlink(missing_ok=True)


def do_task(task: Task, work: Work, progress: Progress, wait: bool = False) -> Outcome:
    """Do a node in its folder unless it is done; "done.json" is written last, "failed.json" when it raises.

    Args:
        wait: for another process that is at it, and take its failure as the outcome; otherwise it is "busy".
    """
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    path = task.folder.with_name(task.folder.name + LOCK)
    try:
        with Lock(path, task.name):
            return _do_locked(task, work, progress)
    except Held as held:
        if not wait:
            return Outcome(task.address, "busy", str(held.owner or "another process"))
    with Lock(path, task.name, math.inf):
        if (task.folder / FAILED).is_file():  # whoever was at it wrote that meanwhile
            return Outcome(task.address, "failed", _reason(task.folder))
        return _do_locked(task, work, progress)


def _do_locked(task: Task, work: Work, progress: Progress) -> Outcome:
    if (task.folder / DONE).is_file():
        return Outcome(task.address, "done")
    task.folder.mkdir(exist_ok=True)
    (task.folder / FAILED).unlink(missing_ok=True)
    started = time.perf_counter()
    with logged(task.log):
        try:
            work(task.kind, task.folder, task.settings, task.inputs, progress)
            _record(task, time.perf_counter() - started)
        except (Exception, SystemExit) as error:  # a parser exits; whatever it is, the other nodes go on
            if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code & 255 > EXITS_OF_SIGNALS:
                raise  # a signal ended it, or submitit (by -1) which queues it again: it goes on, and is no failure
            reason = " ".join(str(error).split()) or type(error).__name__
            with suppress(OSError):  # what fails may be the disk: the reason is told all the same
                traceback.print_exc()
                write_json(task.folder / FAILED, {"name": task.name, "kind": task.kind, "error": reason})
            return Outcome(task.address, "failed", reason)
    return Outcome(task.address, "done")


def _record(task: Task, seconds: float) -> None:
    """Write what is known of a node that is done; with this file it is."""
    record = {
        "seconds": seconds,
        "kind": task.kind,
        "inputs": {role: folder.name for role, folder in task.inputs.items()},
        "libraries": dict(task.libraries),
        "files": _hashes(task.folder),
        "settings": json.loads(json.dumps(task.settings, default=str)),
    }
    write_json(task.folder / DONE, record)


def _hashes(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and hash (null for a large file) of all that a node left, by path; logs are still written to."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not _is_log(path)):
        size = path.stat().st_size
        found[str(path.relative_to(folder))] = {
            "size": size,
            "sha256": sha256_of_file(path) if size <= HASHED_BYTES else None,
        }
    return found


def _is_log(path: Path) -> bool:
    return path.name in (LOG, LOCK) or ".tfevents." in path.name or path.name.startswith(TEMPORARY_PREFIX)


def last_lines(task: Task) -> list[str]:
    """The end of a task's log."""
    try:
        return task.log.read_text(errors="replace").rstrip().splitlines()[-LAST_LINES:]
    except OSError:
        return []


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Send what this process prints, libraries included, into a file."""
    log = open(path, "a", buffering=1)  # noqa: SIM115  (closed below, where a full disk is no news)
    saved = os.dup(1), os.dup(2)
    try:
        with redirect_stdout(log), redirect_stderr(log):
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
    finally:
        for number, original in enumerate(saved, start=1):
            os.dup2(original, number)
            os.close(original)
        with suppress(OSError):
            log.close()

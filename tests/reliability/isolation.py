"""Processes with mounts or rights of their own, for what a file system may do to a program."""

import ctypes
import multiprocessing
import os
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

FORK = multiprocessing.get_context("fork")  # what a child needs is imported already
LIBC = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # of unshare(2)
CAPABILITY_VERSION = 0x20080522
SECONDS = 300


class NotPermitted(Exception):
    """This machine does not let the test do what it needs."""


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a forked process, or the error that it raised there.

    Raises:
        AssertionError: with the trace, if the function fails; a `NotPermitted` skips the test.
    """
    results = FORK.SimpleQueue()
    process = FORK.Process(target=_run, args=(results, function, arguments))
    process.start()
    result, refusal, trace = results.get()
    process.join(SECONDS)
    if refusal is not None:
        pytest.skip(refusal)
    assert trace is None, trace
    return result


def _run(results: Any, function: Callable[..., Any], arguments: tuple) -> None:
    torch.set_num_threads(1)
    try:
        results.put((function(*arguments), None, None))
    except NotPermitted as refusal:
        results.put((None, str(refusal), None))
    except BaseException:
        results.put((None, None, traceback.format_exc()))


def mount_memory(folder: Path, options: str) -> None:
    """Mount a file system of memory on a folder, for this process and its children alone.

    Args:
        options: of mount(8), such as "size=3m"; "remount,ro" makes one that is there read-only.

    Raises:
        NotPermitted: where nobody may have mounts of one's own.
    """
    if "remount" not in options:
        user, group = os.getuid(), os.getgid()
        if LIBC.unshare(NEW_MOUNTS | NEW_USER):
            raise NotPermitted(f"no mounts of one's own here ({os.strerror(ctypes.get_errno())})")
        for name, content in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(content)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        raise NotPermitted(f"nothing can be mounted here ({mounted.stderr.strip()})")


def drop_rights() -> None:
    """Give up all capabilities, after which modes of files hold for root too."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()
    if LIBC.capset(header, none):
        raise NotPermitted(f"rights cannot be dropped here ({os.strerror(ctypes.get_errno())})")

"""Who touches a checkout: an audit hook that notes what this process writes into it, and reads of its runs.

Libraries without Python, and other processes, are seen by the files that they leave.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {  # event -> which of its arguments are paths that it changes
    **dict.fromkeys(("os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.chmod", "os.utime"), (0,)),
    **dict.fromkeys(("os.link", "os.symlink"), (1,)),
    "os.rename": (0, 1),
}
LISTINGS = ("os.listdir", "os.scandir")
RUNS = "runs"  # what other commands leave in a checkout

_watches: dict[str, list[str]] = {}


@contextmanager
def watching(root: Path) -> Iterator[list[str]]:
    """Collects "EVENT PATH" of what happens meanwhile: changes below a checkout, and reads below its `runs`.

    Programs' own notes, in folders that are hidden or begin with `__`, are nobody's business. What libraries do without
    Python, and other processes, go unseen.
    """
    if not _watches:
        _install()
    found = _watches[os.path.realpath(root)] = []
    try:
        yield found
    finally:
        del _watches[os.path.realpath(root)]


def _install() -> None:
    global _installed
    if not _installed:
        sys.addaudithook(_note)
        _installed = True


_installed = False  # a hook stays for good


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watches:
        return
    if event == "open":
        _note_open(arguments[0], arguments[2])
    elif event in CHANGES:
        for place in CHANGES[event]:
            _note_path(event, arguments[place], True)
    elif event in LISTINGS:
        _note_path(event, arguments[0], False)


def _note_open(path: Any, flags: Any) -> None:
    _note_path("open", path, isinstance(flags, int) and bool(flags & WRITING))


def _note_path(event: str, path: Any, changes: bool) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return  # a descriptor, or the working folder
    place = os.path.abspath(os.fsdecode(path))
    if changes:  # through links, too: a test's working folder is made of them
        place = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
    for root, found in _watches.items():
        if not place.startswith(root + os.sep):
            continue
        parts = place[len(root) + 1 :].split(os.sep)
        own = any(part.startswith((".", "__")) for part in parts)
        if (changes and not own) or parts[0] == RUNS:
            found.append(f"{event} {place}")


class NewFiles:
    """Files that came into a checkout since the last call; hidden ones, and folders that begin with `__`, are skipped.

    A folder's time changes with what it lists, so that nothing is listed anew where nothing came or went: 0.2 ms a call
    where a listing of this checkout takes 5.

    Args:
        root: of the checkout.
        skipped: entries of it that are not looked at.
    """

    def __init__(self, root: Path, skipped: tuple[str, ...] = ()):
        self.root, self.skipped = str(root), skipped
        self._read()

    def _read(self) -> None:
        self._files, self._times = set(), {}
        for folder, folders, files in os.walk(self.root):
            skipped = self.skipped if folder == self.root else ()
            folders[:] = [name for name in folders if not name.startswith((".", "__")) and name not in skipped]
            self._times[folder] = _time_of(folder)
            self._files |= {os.path.join(folder, name) for name in files if not name.startswith(".")}

    def __call__(self) -> set[str]:
        if all(_time_of(folder) == time for folder, time in self._times.items()):
            return set()
        before = self._files
        self._read()
        return self._files - before


def _time_of(folder: str) -> int | None:
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return None

"""One process at a time in a folder, and a word on who that is."""

import json
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from eqvae.files import write_atomically


class OwnedLock:
    """A lock whose owner stands beside it: process id, host, and since when.

    The operating system holds it, so that it falls with its process and nobody has to clear it away. Children of the
    owner, such as loader processes, do not hold it.

    Args:
        path: of the lock file; the owner is in `PATH.owner` while it is held.
        what: that is locked, for messages: "run folder runs/a".
    """

    def __init__(self, path: Path, what: str):
        self.path, self.what = Path(path), what
        self.owner_path = self.path.with_name(f"{self.path.name}.owner")
        self._lock = FileLock(self.path)

    def acquire(self) -> Self:
        """Take the lock at once, also one that a dead process left.

        Raises:
            ValueError: naming the process that has it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"{self.what} is in use by {self._owner()}: wait for it, or stop it") from None
        owner = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().isoformat(" ", "seconds"),
        }
        write_atomically(self.owner_path, json.dumps(owner).encode())
        return self

    def release(self) -> None:
        if self._lock.is_locked:
            self.owner_path.unlink(missing_ok=True)
            self._lock.release()

    def _owner(self) -> str:
        try:
            owner = json.loads(self.owner_path.read_bytes())
            return f"process {owner['process']} on {owner['host']}, since {owner['since']}"
        except (OSError, ValueError, KeyError, TypeError):  # it has only just taken the lock, or released it
            return "another process"

    __enter__ = acquire

    def __exit__(self, *error: object) -> None:
        self.release()

"""Locks with an owner: one process works in a folder, the others wait for it or say who is at it.

The lock is the operating system's (`filelock`) and goes with its process, however that ends: a dead owner's is free
at once. Who holds it stands in a file beside it, which is believed only while the lock is held.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from eqvae.files import write_atomically

LEAST_PATIENCE_SECONDS = 0.2  # `held_by` holds a free lock for an instant; longer than that is somebody's
POLL_SECONDS = 0.02
OWNER_SUFFIX = ".owner"


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Args:
        pid: process number on its machine.
        host: name of that machine.
        since: local time at which it took the lock.
    """

    pid: int
    host: str
    since: str

    @classmethod
    def here(cls) -> Self:
        """This process, now."""
        return cls(os.getpid(), socket.gethostname(), datetime.now().astimezone().isoformat(" ", "seconds"))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class Held(ValueError):
    """A lock is another process's.

    Args:
        what: is locked, e.g. "latent cache runs/x/latents".
        owner: who holds it; None where that is not known.
    """

    def __init__(self, what: str, owner: Owner | None):
        super().__init__(f"{what} is in use by {owner or 'another process'}: wait for it, or stop it")
        self.owner = owner


class Lock:
    """A lock file and the name of its owner; a context manager.

    Args:
        path: of the lock file; it stays when the lock is released, since removing it would let two processes in.
        what: is locked, as errors name it.
        patience_seconds: how long `acquire` waits for another owner.
    """

    def __init__(self, path: Path, what: str, patience_seconds: float = 0.0):
        self.path, self.what, self.patience_seconds = Path(path), what, patience_seconds
        self._lock = FileLock(self.path)

    def acquire(self) -> Self:
        """Take the lock and leave this process's name.

        Raises:
            Held: naming the owner, if another process has it for longer than the patience.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(max(self.patience_seconds, LEAST_PATIENCE_SECONDS), POLL_SECONDS)
        except Timeout:
            raise Held(self.what, _recorded(self.path)) from None
        write_atomically(_owner_file(self.path), json.dumps(asdict(Owner.here())).encode())
        return self

    def release(self) -> None:
        """Give the lock up; nothing happens where it is not held."""
        if self._lock.is_locked:
            _owner_file(self.path).unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


def held_by(path: Path) -> Owner | None:
    """The owner of a lock; None while it is free, or its owner has not yet left a name."""
    if not Path(path).is_file():
        return None
    try:
        with FileLock(path, timeout=0):
            return None
    except Timeout:
        return _recorded(path)


def _owner_file(path: Path) -> Path:
    return path.with_name(path.name + OWNER_SUFFIX)


def _recorded(path: Path) -> Owner | None:
    """What an owner wrote, which it does an instant after it took the lock."""
    deadline = time.monotonic() + LEAST_PATIENCE_SECONDS
    while True:
        try:
            return Owner(**json.loads(_owner_file(Path(path)).read_bytes()))
        except (OSError, ValueError, TypeError):
            if time.monotonic() > deadline:
                return None
        time.sleep(POLL_SECONDS)

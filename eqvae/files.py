"""Files that are either whole or absent, whatever kills the process."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 22
TEMPORARY_PREFIX = ".incomplete-"


def require_place(path: str | Path) -> None:
    """Refuse a path that no file can be written to, before anything is computed for it.

    Raises:
        OSError: naming what is in the way.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if not os.access(above, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(above))


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write through a temporary file in the same folder, synced before it takes its name.

    Args:
        content: the bytes, or a function that writes them to an open file.

    Raises:
        OSError: from the file system, naming the path (full disk, missing rights); the old file is untouched.
    """
    path, temporary = Path(path), None
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f"{TEMPORARY_PREFIX}{path.name}-", dir=path.parent)
        with os.fdopen(handle, "w+b") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        system_error = _system_error(error)
        if system_error is None:
            raise
        other = system_error.filename if TEMPORARY_PREFIX not in str(system_error.filename) else None
        raise OSError(system_error.errno, system_error.strerror, other or str(path)) from None
    sync_folder(path.parent)


def _system_error(error: BaseException | None) -> OSError | None:
    """What the file system said, also where a library answers it with an error of its own, as torch does."""
    while isinstance(error, OSError | RuntimeError):
        if isinstance(error, OSError) and error.errno is not None:
            return error
        error = error.__context__
    return None


def sync_folder(folder: Path) -> None:
    """Make a rename durable: it is the folder that records it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers left in a folder; call only where no other process writes."""
    for leftover in Path(folder).glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

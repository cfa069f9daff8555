"""Files that carry their own sha256, so that damage is found wherever a copy of them ends up.

Three kinds of file, one rule each for where the hash stands and what it covers:

- JSON: the key "sha256", over all other keys in canonical form;
- safetensors: the metadata entry "sha256", over the header without it and all bytes of the tensors;
- zip archives, which torch's checkpoints are: the archive's comment, over all bytes before it.

The hash is inside the file that `eqvae.files` renames into place, so no kill can leave the one without the other.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors.torch import save
from torch import Tensor

from eqvae.errors import first_line
from eqvae.files import CHUNK_BYTES, write_atomically

KEY = "sha256"
BLANK = "0" * 64  # stands in for the hash while its place in the file is fixed
COMMENT = b"sha256:"
END_OF_ARCHIVE, END_BYTES = b"PK\x05\x06", 22


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its hash, whole or not at all.

    Raises:
        OSError: from the file system, naming the path.
    """
    content = {key: value for key, value in content.items() if key != KEY}
    write_atomically(path, (json.dumps(content | {KEY: _json_hash(content)}, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that `write_json` wrote, without its hash.

    Raises:
        ValueError: naming the file that is missing, no such object, or damaged.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise ValueError(f"no file at {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is no JSON ({first_line(error)})") from None
    if not isinstance(content, dict) or not isinstance(content.get(KEY), str):
        raise ValueError(f"{path} is damaged: it is no JSON object with its {KEY}")
    recorded = content.pop(KEY)
    if recorded != _json_hash(content):
        raise ValueError(f"{path} is damaged: its content does not have the {KEY} that it names")
    return content


def _json_hash(content: Mapping[str, Any]) -> str:
    """Of the values as a file gives them back: lists for tuples, texts for keys."""
    plain = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors with their hash in the metadata, whole or not at all.

    Raises:
        OSError: from the file system, naming the path.
    """
    content = bytearray(save(dict(tensors), dict(metadata or {}) | {KEY: BLANK}))
    size = 8 + int.from_bytes(content[:8], "little")
    digest = _header_hash(bytes(content[8:size]))
    digest.update(memoryview(content)[size:])
    place = content.index(f'"{KEY}":"{BLANK}"'.encode(), 8, size) + len(KEY) + 4
    content[place : place + len(BLANK)] = digest.hexdigest().encode()
    write_atomically(path, lambda file: file.write(content))


def require_safetensors(path: Path) -> dict[str, str]:
    """Read a file of `write_safetensors` through and return its metadata, without the hash.

    Raises:
        ValueError: naming the file that is missing or damaged, or has no hash.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
            metadata = json.loads(header)["__metadata__"]
            recorded, digest = metadata.pop(KEY), _header_hash(header)
            _update(digest, file)
    except FileNotFoundError:
        raise ValueError(f"no file at {path}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError):
        raise ValueError(f"{path} is damaged: it is no safetensors file with its {KEY}") from None
    if recorded != digest.hexdigest():
        raise ValueError(f"{path} is damaged: its content does not have the {KEY} that it names")
    return metadata


def _header_hash(header: bytes) -> Any:
    """A digest that has taken a safetensors header, but for the hash in it."""
    about = json.loads(header)
    about["__metadata__"] = {key: value for key, value in about["__metadata__"].items() if key != KEY}
    return hashlib.sha256(json.dumps(about, sort_keys=True, separators=(",", ":")).encode())


def seal_archive(file: BinaryIO) -> None:
    """Append the hash of a zip archive, just written to `file` (open for reading, too), as the archive's comment."""
    file.seek(-END_BYTES, os.SEEK_END)
    end = file.read(END_BYTES)
    assert end.startswith(END_OF_ARCHIVE), "not a zip archive"
    assert end.endswith(b"\0\0"), "a zip archive with a comment"
    file.seek(0)
    digest = hashlib.sha256()
    _update(digest, file)
    comment = COMMENT + digest.hexdigest().encode()
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", len(comment)) + comment)


def archive_is_sound(path: Path) -> bool | None:
    """Whether a zip archive has the bytes that its comment's hash names; None for a file that carries no such hash."""
    size = os.path.getsize(path)
    tail = len(COMMENT) + 2 * hashlib.sha256().digest_size
    if size < END_BYTES + tail:
        return None
    with open(path, "rb") as file:
        file.seek(size - tail)
        comment = file.read(tail)
        if not comment.startswith(COMMENT):
            return None
        file.seek(0)
        digest = hashlib.sha256()
        _update(digest, file, size - tail - 2)
    digest.update(b"\0\0")  # the length of the comment, as it was when the hash was taken
    return digest.hexdigest().encode() == comment[len(COMMENT) :]


def _update(digest: Any, file: BinaryIO, num_bytes: int | None = None) -> None:
    """Feed the rest of a file, or so many bytes of it, to a digest."""
    while chunk := file.read(CHUNK_BYTES if num_bytes is None else min(CHUNK_BYTES, num_bytes)):
        digest.update(chunk)
        if num_bytes is not None:
            num_bytes -= len(chunk)

"""Where an autoencoder lies, written down so that it is found again when folders have moved."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqvae.records import RECORD, TEXT, Check, require_entries

Source = str | dict[str, Any]

SOURCE: Check = ("a text, or a mapping with one", lambda value: isinstance(_name(value), str))


def describe_place(source: Source | None, folder: str | Path) -> dict[str, Any] | None:
    """Plain values that tell where an autoencoder is, for a file in `folder`; None for random weights.

    Args:
        source: what `load_autoencoder` took. Of what lies here, the absolute path and that from `folder` are kept.
    """
    name = _name(source)
    if source is None or name is None:
        return None
    if not Path(name).exists():  # a packaged name or hub id
        return {"source": source}
    path = os.path.abspath(name)
    return {"source": _renamed(source, path), "relative": os.path.relpath(path, os.path.abspath(folder))}


def find_place(described: Mapping[str, Any] | None, folder: str | Path) -> Source | None:
    """The source again: beside `folder` as before, else where it was; None where nothing was written down."""
    if described is None:
        return None
    beside = os.path.normpath(os.path.join(os.path.abspath(folder), described.get("relative", "")))
    is_there = "relative" in described and os.path.exists(beside)
    return _renamed(described["source"], beside) if is_there else described["source"]


def require_place(described: Any) -> None:
    """Refuse what `describe_place` did not write.

    Raises:
        ValueError: naming the entry.
    """
    if described is None:
        return
    require_entries({"autoencoder": described}, {"autoencoder": RECORD})
    entries = {"source": SOURCE} | ({"relative": TEXT} if "relative" in described else {})
    require_entries(described, entries, "autoencoder.")


def _name(source: Source | None) -> str | None:
    """The path, packaged name or hub id of a source; None for random weights."""
    while isinstance(source, Mapping):
        source = source.get("source")
    return source


def _renamed(source: Source, name: str) -> Source:
    return {**source, "source": _renamed(source["source"], name)} if isinstance(source, Mapping) else name

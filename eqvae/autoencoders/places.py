"""Where an autoencoder lies: written down so that it is found when folders have moved, or for others to read.

What others read names hub ids and packaged autoencoders; of a path on this machine it keeps the last part.
"""

import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from eqvae.cards import last_name
from eqvae.records import RECORD, TEXT, Check, require_entries

Source = str | dict[str, Any]
Kind = Literal["hub", "packaged", "local", "scratch"]

PACKAGED = files("eqvae.autoencoders") / "pretrained"
FILE_SUFFIXES = (".safetensors", ".ckpt", ".pt")  # of files; no hub id ends so
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*")
RUNS = "runs"  # the folder below which every shipped config works

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


def is_hub_id(name: str) -> bool:
    """Whether a name is one that the hub may have: of its form, and no path here that was mistyped.

    What begins with a folder that is here, or with `runs`, is meant as a path.
    """
    first = name.split("/")[0]
    return (
        bool(HUB_ID.fullmatch(name)) and not name.endswith(FILE_SUFFIXES) and first != RUNS and not Path(first).exists()
    )


def kind_of(source: Source) -> Kind:
    """What a source of `load_autoencoder` is: random weights are "scratch"."""
    name = _name(source)
    if name is None:
        return "scratch"
    if Path(name).exists():
        return "local"
    if (PACKAGED / name).is_dir():
        return "packaged"
    return "hub" if is_hub_id(name) else "local"


def public_source(source: Source) -> dict[str, Any]:
    """{"kind", "source"} for whoever reads an export: a source without the folders of this machine."""
    kind, name = kind_of(source), _name(source)
    if name is None or kind != "local":
        return {"kind": kind, "source": source}
    return {"kind": kind, "source": _renamed(source, last_name(name))}


def name_of(public: Mapping[str, Any]) -> str:
    """What people call the source that `public_source` gave."""
    return _name(public["source"]) or "random weights"


def _name(source: Source | None) -> str | None:
    """The path, packaged name or hub id of a source; None for random weights."""
    while isinstance(source, Mapping):
        source = source.get("source")
    return source


def _renamed(source: Source, name: str) -> Source:
    return {**source, "source": _renamed(source["source"], name)} if isinstance(source, Mapping) else name

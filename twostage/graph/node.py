"""A piece of work and its address: the settings, the inputs' addresses and the code that does it."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ADDRESS_LENGTH = 12
STORE = "store"  # the folder of all results, below the root

Progress = Callable[[int, int, int], None]
"""Told how many units of how many are done, and how many images went through so far."""

Work = Callable[[str, Path, dict[str, Any], dict[str, Path], Progress], None]
"""Does a node: kind, folder, settings, input folders by role, progress."""


@dataclass(frozen=True)
class Node:
    """A piece of work: what, with which settings, after which others. Equal work has an equal address.

    Args:
        name: path of folder names, unique in a plan, for people; no part of the address.
        kind: what the work is, known to whoever does it.
        settings: plain values that determine the result; texts may start with `{node}` or `{role}`, for folders.
        inputs: nodes by the role they play.
        version: hash of the code that does it (`code_version`).
        trains: whether it trains, and so may take several devices of a cluster.
        counted: what counts of the settings, where that is more than their text: contents of files in place of names;
            None: the settings.
        reads: files of its inputs, by role, that may be removed once all who read them are done (`pruning`).
    """

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: dict[str, "Node"] = field(default_factory=dict)
    version: str = ""
    trains: bool = False
    counted: Any = None
    reads: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def address(self) -> str:
        """Hexadecimal; of the kind, the settings, the code and the addresses of the inputs."""
        inputs = {role: node.address for role, node in self.inputs.items()}
        counted = self.settings if self.counted is None else self.counted
        content = json.dumps([self.kind, self.version, counted, inputs], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:ADDRESS_LENGTH]

    def folder(self, root: Path) -> Path:
        """Where its results lie, the same for every plan below `root`."""
        return root / STORE / f"{self.kind}-{self.address}"


def unique(nodes: Iterable[Node]) -> list[Node]:
    """The nodes without repetitions of an address, the first of each kept."""
    first: dict[str, Node] = {}
    for node in nodes:
        first.setdefault(node.address, node)
    return list(first.values())

"""What a kind of part is, and how a node of it is made."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eqvae.plugins import plugin_folders, plugins
from twostage.graph.code_version import OWN, code_version
from twostage.graph.node import Node, Progress
from twostage.parts.contents import forget_listings, with_contents

DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@dataclass(frozen=True)
class Estimate:
    """Training steps, images that go through a network, and bytes on disk; None where it cannot be known yet."""

    num_steps: int = 0
    num_images: int | None = 0
    num_bytes: int | None = 0


@dataclass(frozen=True)
class Part:
    """A kind of part of a sweep.

    Args:
        name: of the kind; the first word of its folders in the store.
        run: does the work: own folder, settings with folders filled in, input folders by role, progress.
        estimate: what a node will cost, given the shape of a cached latent where it is known.
        trains: whether it trains, and so may take several devices of a cluster.
        by_name: whether it uses what plug-ins register under a name, such as samplers, which names no class: all
            plug-ins count then.
        reads: checkpoints of its inputs that it reads, by role, given its settings.
        kept: the one checkpoint that stays when those that nobody needs any more are removed; of a part that trains.
    """

    name: str
    run: Callable[[Path, dict[str, Any], dict[str, Path], Progress], None]
    estimate: Callable[[Node, tuple[int, ...] | None], Estimate]
    trains: bool = False
    by_name: bool = False
    reads: Callable[[dict[str, Any]], dict[str, list[str]]] = lambda settings: {}
    kept: Callable[[Path, dict[str, Any]], Path | None] | None = None

    def node(self, name: str, settings: dict[str, Any], inputs: dict[str, Node] | None = None) -> Node:
        """A node of this kind, its version being that of all code it reaches: its own and the classes in its settings.

        Files that the settings name count by what they hold (`contents`).

        Args:
            name: path of folder names, unique in the plan.
            settings: plain values.
            inputs: nodes by role.
        """
        named, packages = list(class_paths(settings)), set(plugins())
        if not self.by_name:
            packages &= {name.split(".")[0] for name in named}  # importing one of its modules runs the package, too
        names, folders = {self.run.__module__, *named, *packages}, OWN | plugin_folders()
        version = _version(frozenset(names), tuple(sorted(folders.items())))
        reads, counted = self.reads(settings), with_contents(settings)
        return Node(name, self.name, settings, inputs or {}, version, self.trains, counted, reads)


def read_anew() -> None:
    """Forget what files held: one plan reads sources and lists data sets once, the next one does so again."""
    _version.cache_clear()
    forget_listings()


@cache
def _version(names: frozenset[str], folders: tuple[tuple[str, Path], ...]) -> str:
    return code_version(sorted(names), dict(folders))


def class_paths(value: Any) -> Iterator[str]:
    """The classes and functions that a config may name: all its texts that are dotted names."""
    if isinstance(value, str) and DOTTED.fullmatch(value):
        yield value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from class_paths(inner)

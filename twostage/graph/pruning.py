"""Removes files of finished nodes that nobody reads any more, and has them made again for whoever does later."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from eqvae.hashes import write_json
from eqvae.locks import Lock
from twostage.graph.node import Node, unique
from twostage.graph.store import DONE, LOCK, is_done, record_of

PRUNED = "pruned"
"""Entry of a node's record: files that were removed, with size and hash."""


@dataclass(frozen=True)
class Freed:
    """How many nodes lost files, and how many bytes they had."""

    num_nodes: int
    num_bytes: int


def prune(nodes: Iterable[Node], root: Path, superfluous: Callable[[Node, Path], list[Path]]) -> Freed:
    """Remove superfluous files of nodes all of whose readers in the plan are done.

    Args:
        superfluous: files of a node (and its folder) that its own result does not need.

    Raises:
        ValueError: if another process works on one of the nodes.
    """
    nodes = unique(nodes)
    unfinished = {other.address for node in nodes if not is_done(node, root) for other in node.inputs.values()}
    num_nodes, num_bytes = 0, 0
    for node in nodes:
        if not is_done(node, root) or node.address in unfinished:
            continue
        folder = node.folder(root)
        with Lock(folder.with_name(folder.name + LOCK), node.name):
            freed = _remove(node, root, superfluous(node, folder))
        num_nodes, num_bytes = num_nodes + (freed > 0), num_bytes + freed
    return Freed(num_nodes, num_bytes)


def _remove(node: Node, root: Path, paths: list[Path]) -> int:
    """Remove files, the record first: what it still lists is there. Returns their bytes."""
    folder = node.folder(root)
    names = [str(path.relative_to(folder)) for path in paths]
    if not names:
        return 0
    record = record_of(node, root)
    gone = {name: record["files"].pop(name, None) for name in names}
    write_json(folder / DONE, record | {PRUNED: record.get(PRUNED, {}) | gone})
    freed = sum(path.stat().st_size for path in paths)
    for path in paths:
        path.unlink()
    return freed


def lacking_inputs(node: Node, root: Path) -> list[tuple[Node, str]]:
    """Finished inputs of a node without a file which it reads, each with why it must be done again."""
    found = []
    for role, names in node.reads.items():
        source = node.inputs[role]
        if not is_done(source, root):
            continue
        record = record_of(source, root)
        for name in [name for name in names if name not in record["files"]]:
            gone = "was removed when it had been measured" if name in record.get(PRUNED, {}) else "was not kept"
            found.append((source, f"{node.name} needs {name}, which {gone}"))
    return found

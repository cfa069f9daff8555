"""Runs nodes in the order of their inputs, past those that are done and around those that failed."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from twostage.graph.executor import Executor
from twostage.graph.node import Node, Work, unique
from twostage.graph.progress import ProgressTable
from twostage.graph.pruning import lacking_inputs
from twostage.graph.store import Outcome, Task, damage, failure_of, forget, has_failed, is_done, last_lines, record_of
from twostage.graph.workers import InlineExecutor, LocalExecutor, Running

POLL_SECONDS = 0.2
BUSY_SECONDS = 2.0  # before a node that another sweep is at is asked for again


@dataclass(frozen=True)
class Milestone:
    """Nodes that are begun before all others, and what is said when all of them are done.

    Args:
        nodes: some of those that run, inputs before those that need them.
        lines: computed at that moment.
    """

    nodes: Sequence[Node]
    lines: Callable[[], Iterable[str]]


def run_nodes(
    nodes: Iterable[Node],
    root: Path,
    executor: Executor,
    console: Console,
    work: Work,
    retry: bool = False,
    libraries: Mapping[str, str] | None = None,
    devices: Sequence[str] = (),
    milestone: Milestone | None = None,
) -> None:
    """Do all nodes that are not done, each as soon as its inputs are.

    A node whose files were damaged since is done again; so is, with `retry`, what a failed node was made from, if any
    of its files is damaged.

    Args:
        work: what a task does.
        retry: also do those that failed in an earlier run.
        libraries: releases that nodes are done with; where those of finished nodes differ, a line says so.
        devices: CUDA devices that local workers share.
        milestone: said once, at once where all of it is done already.

    Raises:
        ValueError: listing the nodes that failed, with their logs; what was finished stays.
    """
    nodes = unique([*(milestone.nodes if milestone else ()), *nodes])
    require_store(nodes, root)
    _forget_damaged(nodes, root, console, retry)
    _forget_lacking(nodes, root, console, retry)
    _compare_libraries(nodes, root, console, libraries or {})
    run = _Run(nodes, root, console, retry, libraries or {}, milestone)
    if run.states["done"]:
        console.print(f"{run.states['done']} of {len(nodes)} parts are already done", highlight=False)
    run.tell(console.print)
    if run.ready():
        with ProgressTable(console, run.states) as table:
            where = _create(executor, work, devices)
            try:
                run.drain(where, table)
            finally:
                where.close()
    if run.failed:
        raise ValueError(run.account())


def _forget_damaged(nodes: list[Node], root: Path, console: Console, retry: bool) -> None:
    """Take nodes for not done whose files are not as they were left."""
    suspects = {other.address for node in nodes if has_failed(node, root) for other in node.inputs.values()}
    for node in nodes:
        if not is_done(node, root):
            continue
        problem = damage(node, root, thorough=retry and node.address in suspects)
        if problem is not None:
            console.print(f"[yellow]again[/] {escape(node.name)}: {escape(problem)}", highlight=False, soft_wrap=True)
            forget(node, root)


def _forget_lacking(nodes: list[Node], root: Path, console: Console, retry: bool) -> None:
    """Take nodes for not done that lack a file which a node that is to be done reads."""
    for node in nodes:
        if is_done(node, root) or (has_failed(node, root) and not retry):
            continue
        for source, why in lacking_inputs(node, root):
            if is_done(source, root):
                console.print(f"[yellow]again[/] {escape(source.name)}: {escape(why)}", highlight=False, soft_wrap=True)
                forget(source, root)


def _compare_libraries(nodes: list[Node], root: Path, console: Console, libraries: Mapping[str, str]) -> None:
    """Say which finished nodes were done with other releases than these."""
    for (name, there), count in sorted(other_libraries(nodes, root, libraries).items()):
        console.print(
            f"[yellow]note[/] {count} finished parts were made with {name} {there}, here is {libraries[name]}: "
            "numbers may differ in their last digits",
            highlight=False,
            soft_wrap=True,
        )


def other_libraries(nodes: Iterable[Node], root: Path, libraries: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """How many finished nodes were done with another release of a library: {(library, release): count}."""
    found: Counter[tuple[str, str]] = Counter()
    for node in unique(nodes):
        if is_done(node, root):
            recorded = record_of(node, root)["libraries"]
            found.update((name, there) for name, there in recorded.items() if libraries.get(name, there) != there)
    return found


def require_store(nodes: Iterable[Node], root: Path) -> None:
    """Make sure that the store can be written.

    Raises:
        ValueError: naming the folder that cannot.
    """
    store = next(iter(nodes)).folder(root).parent
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"root: {store} cannot be made: {error.strerror}") from None
    if not os.access(store, os.W_OK):
        raise ValueError(f"root: {store} cannot be written")


def _create(executor: Executor, work: Work, devices: Sequence[str]):
    if executor.kind == "submitit":
        from twostage.graph.cluster import SubmititExecutor

        return SubmititExecutor(work, executor)
    if executor.num_workers == 0:
        return InlineExecutor(work)
    return LocalExecutor(work, executor.num_workers, devices)


class _Run:
    """Which nodes wait, run, are done and have failed."""

    def __init__(
        self,
        nodes: list[Node],
        root: Path,
        console: Console,
        retry: bool,
        libraries: Mapping[str, str],
        milestone: Milestone | None,
    ):
        self.nodes, self.root, self.console, self.libraries = nodes, root, console, libraries
        self.milestone = milestone
        self.done = {node.address for node in nodes if is_done(node, root)}
        remaining = [node for node in nodes if node.address not in self.done]
        failed = [node for node in remaining if has_failed(node, root) and not retry]
        self.failed = {node.address: f"failed before: {failure_of(node, root)}" for node in failed}
        self.waiting = [node for node in remaining if node.address not in self.failed]
        self.running: dict[str, Node] = {}
        self.not_before: dict[str, float] = {}
        self.reopened: set[str] = set()

    @property
    def states(self) -> dict[str, int]:
        groups = {"done": self.done, "running": self.running, "waiting": self.waiting, "failed": self.failed}
        return {name: len(group) for name, group in groups.items()}

    def ready(self, ordered: bool = False) -> list[Node]:
        """Waiting nodes whose inputs are done or, where the executor keeps the order itself, under way."""
        return [node for node in self.waiting if self._is_ready(node, ordered)]

    def _is_ready(self, node: Node, ordered: bool) -> bool:
        begun = self.done | (self.running.keys() if ordered else set())
        now = time.monotonic()
        inputs_begun = all(other.address in begun for other in node.inputs.values())
        return inputs_begun and self.not_before.get(node.address, now) <= now

    def drain(self, executor: Running, table: ProgressTable) -> None:
        while self.running or self.ready() or self.not_before.keys() & {node.address for node in self.waiting}:
            for node in self.ready(executor.orders_tasks)[: executor.free()]:
                self._reopen_inputs(node, table)
                if self._is_ready(node, executor.orders_tasks):
                    self._begin(node, executor, table)
            for event in executor.poll(POLL_SECONDS):
                if isinstance(event, Outcome):
                    self._end(event, table)
                else:
                    table.advance(event.address, event.done, event.total, event.images)
                self.tell(table.print)
            table.count(self.states)

    def _reopen_inputs(self, node: Node, table: ProgressTable) -> None:
        """Have inputs done again, once, that lost a file meanwhile which a node reads: to another sweep's pruning."""
        waits = {each.address: each for each in self.nodes}
        for source, why in lacking_inputs(node, self.root):
            if source.address in self.done & waits.keys() - self.reopened:
                table.print(f"[yellow]again[/] {escape(source.name)}: {escape(why)}")
                forget(source, self.root)
                self.done.remove(source.address)
                self.reopened.add(source.address)
                self.waiting.append(waits[source.address])

    def _begin(self, node: Node, executor: Running, table: ProgressTable) -> None:
        self.waiting.remove(node)
        self.running[node.address] = node
        task = Task.of(node, self.root, self.libraries)
        table.start(task)
        if node.address in self.not_before and has_failed(node, self.root):  # under the process that was at it
            self._end(Outcome(node.address, "failed", failure_of(node, self.root)), table)
        else:
            executor.submit(task)

    def tell(self, show: Callable[[str], None]) -> None:
        """Say what the milestone has to say, once, when it is reached."""
        if self.milestone is not None and all(node.address in self.done for node in self.milestone.nodes):
            for line in self.milestone.lines():
                show(escape(line))
            self.milestone = None

    def _end(self, outcome: Outcome, table: ProgressTable) -> None:
        node = self.running.pop(outcome.address)
        task = Task.of(node, self.root)
        table.stop(task)
        if outcome.state == "busy":
            if node.address not in self.not_before:
                table.print(f"[yellow]waiting[/] {escape(node.name)}: {escape(outcome.error)} is at it")
            self.not_before[node.address] = time.monotonic() + BUSY_SECONDS
            self.waiting.append(node)
        elif outcome.state == "done":
            self.done.add(node.address)
            table.print(f"[green]done[/] {escape(node.name)} [dim]({record_of(node, self.root)['seconds']:.0f} s)[/]")
        else:
            self.failed[node.address] = outcome.error
            table.print(f"[red]failed[/] {escape(node.name)}: {escape(outcome.error)}")
            for line in [f"log: {task.log}", *last_lines(task)]:
                table.print(f"  [dim]{escape(line)}[/]")

    def account(self) -> str:
        """The failed nodes with their logs, and what could not be done because of them."""
        named = {node.address: node for node in self.nodes}
        parts = [
            f"{named[address].name}: {reason} (log: {Task.of(named[address], self.root).log})"
            for address, reason in self.failed.items()
        ]
        missing = f"; {len(self.waiting)} more need them" if self.waiting else ""
        return f"{len(parts)} of {len(self.nodes)} parts failed{missing}: {'; '.join(parts)}; --retry does them again"

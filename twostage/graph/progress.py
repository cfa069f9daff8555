"""The live table of a running sweep: nodes, their state, images per second, time left."""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from twostage.graph.store import Task


class ProgressTable:
    """One row for the whole sweep with the count of each state, and one for each running node."""

    def __init__(self, console: Console, states: dict[str, int]):
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeLeftColumn(),
            console=console,
            refresh_per_second=2,  # each takes 15 ms of what the workers compute with
            auto_refresh=console.is_terminal,
        )
        self.rows: dict[str, TaskID] = {}
        self.started: dict[str, float] = {}
        self.whole = self.bars.add_task("[bold]whole sweep", total=sum(states.values()), note="")
        self.count(states)

    def __enter__(self) -> "ProgressTable":
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def count(self, states: dict[str, int]) -> None:
        """Show how many nodes are done, running, waiting and failed."""
        note = ", ".join(f"{count} {state}" for state, count in states.items() if count)
        self.bars.update(self.whole, completed=states["done"] + states["failed"], note=note)

    def start(self, task: Task) -> None:
        self.started[task.address] = time.perf_counter()
        self.rows[task.address] = self.bars.add_task(escape(task.name), total=None, note="")

    def advance(self, address: str, done: int, total: int, images: int) -> None:
        seconds = time.perf_counter() - self.started[address]
        note = f"{images / seconds:,.0f} images/s" if images else ""
        self.bars.update(self.rows[address], completed=done, total=total, note=note)

    def stop(self, task: Task) -> None:
        self.bars.remove_task(self.rows.pop(task.address))

    def print(self, line: str) -> None:
        self.bars.console.print(line, highlight=False)

"""How far a long piece of work is: one line that moves in a terminal, and elsewhere a new line every minute."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

REFRESHES = 4  # a second, in a terminal
SPEED_SECONDS = 30.0  # over which speed is averaged
PERIOD_SECONDS = 60.0


class ProgressLine:
    """What is done of how much, images a second, a note, and the time left.

    Moves by itself in a terminal; where output goes to a file, a plain line comes whenever `period` seconds are over,
    and at the end.

    Args:
        what: is done, "training".
        total: in steps, batches or images.
        done: of them so far.
        period: seconds between plain lines.
        console: where to; None: standard output.
    """

    def __init__(
        self, what: str, total: int, done: int = 0, period: float = PERIOD_SECONDS, console: Console | None = None
    ):
        self.console = console or Console()
        self.bars = Progress(
            TextColumn("{task.fields[what]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            refresh_per_second=REFRESHES,
            speed_estimate_period=SPEED_SECONDS,
            disable=not self.console.is_terminal,
        )
        self.task = self.bars.add_task(what, total=total, completed=done, what=what, note="")
        self.period, self._last_line = period, time.monotonic()

    def __enter__(self) -> "ProgressLine":
        self.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the line as it is; to be called once."""
        self.bars.stop()
        if self.bars.disable:
            self._print()

    def update(self, done: float, images_per_unit: float = 1.0, note: str = "") -> None:
        """Say how much is done.

        Args:
            done: of the total.
            images_per_unit: images in a step or batch.
            note: what else is worth reading, such as a loss.
        """
        task = self.bars.tasks[0]
        speed = f"{task.speed * images_per_unit:,.1f} images/s" if task.speed else ""
        self.bars.update(self.task, completed=done, note=", ".join(filter(None, (speed, note))))
        if self.bars.disable and time.monotonic() - self._last_line >= self.period:
            self._print()

    def _print(self) -> None:
        self._last_line = time.monotonic()
        self.console.print(self.text(), markup=False, highlight=False, soft_wrap=True)

    @property
    def done(self) -> float:
        """How much is done of the total."""
        return self.bars.tasks[0].completed

    def rename(self, what: str) -> None:
        """Say that something else is done meanwhile."""
        self.bars.update(self.task, what=what)

    def text(self) -> str:
        """The same without a bar: "training: 120 of 200, 350.0 images/s, loss 1.58, 0:00:12 left"."""
        task = self.bars.tasks[0]
        left = TimeRemainingColumn().render(task).plain
        parts = (f"{task.completed:.0f} of {task.total:.0f}", task.fields["note"], f"{left} left")
        return f"{task.fields['what']}: {', '.join(filter(None, parts))}"

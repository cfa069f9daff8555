"""Runs the nodes of a sweep in worker processes, shows how far each is, and leaves finished ones alone."""

import json
import multiprocessing
import os
import queue
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from dit.sweeps.plan import Node
from eqvae.training.cli import one_line
from eqvae.training.files import write_atomically

DONE = "done.json"
LOG = "log.txt"
REFRESH_SECONDS = 0.2
REPORT_SECONDS = 0.5  # workers report at most this often


def run_nodes(nodes: list[Node], root: Path, num_workers: int, console: Console) -> None:
    """Do all nodes that are not done, each as soon as its inputs are.

    Raises:
        ValueError: when a node fails, with its reason and log; what was finished stays.
    """
    waiting = [node for node in nodes if not is_done(node, root)]
    if len(waiting) < len(nodes):
        console.print(f"{len(nodes) - len(waiting)} of {len(nodes)} parts are already done")
    if not waiting:
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // num_workers)
    with _thread_limit(threads), context.Manager() as manager, _bars(console) as bars:
        reports = manager.Queue()
        with ProcessPoolExecutor(num_workers, context, _start_worker, (threads,)) as pool:
            try:
                _drain(waiting, root, num_workers, pool, reports, bars)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise


def is_done(node: Node, root: Path) -> bool:
    return (node.folder(root) / DONE).is_file()


def seconds_of(node: Node, root: Path) -> float:
    """How long a finished node took."""
    return json.loads((node.folder(root) / DONE).read_text())["seconds"]


def _drain(
    waiting: list[Node], root: Path, num_workers: int, pool: ProcessPoolExecutor, reports: Any, bars: Progress
) -> None:
    total = bars.add_task("[bold]whole sweep", total=len(waiting))
    tasks: dict[str, TaskID] = {}
    running: dict[Future, Node] = {}
    waiting = list(waiting)
    while waiting or running:
        ready = [node for node in waiting if all(is_done(other, root) for other in node.inputs.values())]
        for node in ready[: max(0, num_workers - len(running))]:
            waiting.remove(node)
            tasks[node.address] = bars.add_task(node.name, total=None)
            inputs = {role: str(other.folder(root)) for role, other in node.inputs.items()}
            arguments = (node.kind, node.address, str(node.folder(root)), node.settings, inputs, reports)
            running[pool.submit(_work, *arguments)] = node
        finished, _ = wait(running, timeout=REFRESH_SECONDS, return_when=FIRST_COMPLETED)
        for address, done, of in _received(reports):
            bars.update(tasks[address], completed=done, total=of)
        for future in finished:
            node = running.pop(future)
            error = future.result()
            if error is not None:
                raise ValueError(f"{node.name} failed: {error} (log: {node.folder(root) / LOG})")
            bars.remove_task(tasks[node.address])
            bars.advance(total)
            bars.console.print(f"[green]done[/] {node.name} [dim]({seconds_of(node, root):.0f} s)[/]")


def _received(reports: Any) -> Iterator[tuple[str, int, int]]:
    while True:
        try:
            yield reports.get_nowait()
        except queue.Empty:
            return


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        console=console,
        refresh_per_second=4,
    )


@contextmanager
def _thread_limit(threads: int) -> Iterator[None]:
    """Limit numpy's linear algebra, too, in processes started meanwhile: it reads the environment when it is loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _start_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _work(kind: str, address: str, folder: str, settings: dict, inputs: dict[str, str], reports: Any) -> str | None:
    """Run one node in this worker process; returns the reason if it fails."""
    from dit.sweeps.nodes import run_node

    path, started, last = Path(folder), time.perf_counter(), [0.0]
    path.mkdir(parents=True, exist_ok=True)

    def progress(done: int, total: int) -> None:
        now = time.perf_counter()
        if now - last[0] > REPORT_SECONDS or done == total:
            last[0] = now
            reports.put((address, done, total))

    with _logged(path / LOG):
        try:
            run_node(kind, path, settings, {role: Path(where) for role, where in inputs.items()}, progress)
        except (ValueError, OSError, RuntimeError) as error:
            traceback.print_exc()
            return one_line(str(error))
    done = {"seconds": time.perf_counter() - started, "kind": kind, "settings": settings}
    write_atomically(path / DONE, (json.dumps(done, indent=2, default=str) + "\n").encode())
    return None


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send what this process prints, libraries included, into a file."""
    saved = os.dup(1), os.dup(2)
    with open(path, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            for number, original in enumerate(saved, start=1):
                os.dup2(original, number)
                os.close(original)

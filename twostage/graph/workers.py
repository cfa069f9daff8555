"""Executors on this machine: in this process, or in worker processes, one per device.

The worker processes are our own because no library's were found to hold what is asked of them (tried: loky 3.7 and the
local executor of submitit 1.5, on the two things that a person does to a sweep, and on devices):

- A killed worker fails its own task alone. In loky it breaks the executor: the other worker's task failed with it, and
  so did every later one.
- Workers end with a killed main process. A worker of either still trained 12 s after it, with nobody to collect it.
- Each worker has its device. All workers of a loky executor have one environment; two submitit jobs side by side both
  saw device 0.
- Libraries are imported once for many tasks. A submitit job is a fresh interpreter, 7 s of importing torch beside
  other work before each part, and it reports no progress.
"""

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from eqvae.cores import threads_each
from eqvae.heap import keep_freed_memory
from eqvae.importing import importing
from twostage.graph.node import Work
from twostage.graph.store import Outcome, Task, do_task

REPORT_SECONDS = 0.5  # workers report at most this often
SAVE_SECONDS = 20.0  # that a training has for its step and a checkpoint, when the sweep is told to end
EXIT_SECONDS = 10.0  # that an idle worker has for ending by itself
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Advance:
    """How far a running task is."""

    address: str
    done: int
    total: int
    images: int


class Running(Protocol):
    """Where nodes run: here, in worker processes, or on a cluster.

    Attributes:
        orders_tasks: whether a task may be submitted before those it depends on have ended.
    """

    orders_tasks: bool

    def free(self) -> int: ...

    def submit(self, task: Task) -> None: ...

    def poll(self, seconds: float) -> Iterable["Advance | Outcome"]: ...


class InlineExecutor:
    """Does one task at a time in this process, where a debugger sees it."""

    orders_tasks = False

    def __init__(self, work: Work):
        self.work, self.events = work, []

    def free(self) -> int:
        return 1

    def submit(self, task: Task) -> None:
        def progress(done: int, total: int, images: int) -> None:
            self.events.append(Advance(task.address, done, total, images))

        self.events.append(do_task(task, self.work, progress, wait=True))

    def poll(self, seconds: float) -> Iterator[Advance | Outcome]:
        while self.events:
            yield self.events.pop(0)

    def close(self) -> None:
        pass


class LocalExecutor:
    """Worker processes that do tasks until they are closed; a worker that dies fails its task and is replaced.

    Args:
        work: what a task does; importable, for workers are fresh processes.
        num_workers: None: one per device, else one.
        devices: names of CUDA devices; each worker sees one, and its share of the cores.
    """

    orders_tasks = False

    def __init__(self, work: Work, num_workers: int | None, devices: Sequence[str] = ()):
        self.devices = devices
        self.num_workers = num_workers or len(self.devices) or 1
        self.threads = threads_each(self.num_workers)
        self.work = work
        self.workers = [self._start(number) for number in range(self.num_workers)]

    def free(self) -> int:
        return sum(worker.task is None for worker in self.workers)

    def submit(self, task: Task) -> None:
        worker = next(worker for worker in self.workers if worker.task is None)
        if not worker.process.is_alive():  # out of memory, say: an idle one keeps what it has freed
            worker = self._restarted(worker)
        worker.task = task
        worker.pipe.send(task)

    def poll(self, seconds: float) -> Iterator[Advance | Outcome]:
        """What workers reported; returns after `seconds` at the latest where they report nothing."""
        for pipe in wait([worker.pipe for worker in self.workers], seconds):
            worker = next(worker for worker in self.workers if worker.pipe is pipe)
            try:
                event = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._replace(worker)
                continue
            if isinstance(event, Outcome):
                worker.task = None
            yield event

    def close(self) -> None:
        """End the workers. A training saves its step; whoever takes long is killed, and its lock falls with it."""
        busy, end = [worker for worker in self.workers if worker.task is not None], time.monotonic() + SAVE_SECONDS
        for worker in busy:
            worker.process.terminate()
        for worker in busy:  # with its pipe open: to whom it reports would be gone, and its task have failed
            worker.process.join(max(0.0, end - time.monotonic()))
            worker.process.kill()
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join(EXIT_SECONDS)
            worker.process.kill()
            worker.process.join()

    def _start(self, number: int) -> "_Worker":
        ours, theirs = multiprocessing.Pipe()
        variables: dict[str, str] = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        if self.devices:
            variables["CUDA_VISIBLE_DEVICES"] = self.devices[number % len(self.devices)]
        with _environment(variables):
            process = multiprocessing.get_context("spawn").Process(
                target=_serve, args=(theirs, pickle.dumps(self.work)), daemon=False
            )
            process.start()
        theirs.close()
        return _Worker(number, process, ours)

    def _restarted(self, worker: "_Worker") -> "_Worker":
        """A new worker in the place of one that died."""
        worker.process.join()
        worker.pipe.close()
        self.workers[self.workers.index(worker)] = new = self._start(worker.number)
        return new

    def _replace(self, worker: "_Worker") -> Iterator[Outcome]:
        self._restarted(worker)
        if worker.task is not None:
            reason = f"its process ended with exit code {worker.process.exitcode} (killed, or out of memory?)"
            yield Outcome(worker.task.address, "failed", reason)


@dataclass
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    task: Task | None = None


def _serve(pipe: Connection, pickled_work: bytes) -> None:
    """A worker's life: tasks come through the pipe, progress and outcomes go back."""
    import signal

    keep_freed_memory()
    with importing():
        work: Work = pickle.loads(pickled_work)  # our own parent's; what it does is imported here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process gets it, too, and ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(do_task(task, work, _sender(pipe, task)))


def _sender(pipe: Connection, task: Task):
    last = [0.0]

    def progress(done: int, total: int, images: int) -> None:
        now = time.perf_counter()
        if now - last[0] > REPORT_SECONDS or done == total:
            last[0] = now
            pipe.send(Advance(task.address, done, total, images))

    return progress


def _end_with_parent() -> None:
    """A killed main process takes its workers with it: nobody else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has one"
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for processes started meanwhile: libraries read them when they are loaded."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

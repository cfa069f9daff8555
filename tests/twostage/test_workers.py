"""Worker processes: each has its device, reports how far it is, and takes no other's task with it when it is killed."""

import multiprocessing
import os
import signal
import time

import pytest

from twostage.graph import workers
from twostage.graph.store import Outcome, Task
from twostage.graph.workers import Advance, LocalExecutor

SECONDS = 60


def work(kind, folder, settings, inputs, progress):
    (folder / "device.txt").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    progress(1, 1, 8)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "saving":
        signal.signal(signal.SIGTERM, lambda *_: save_and_exit(folder, progress))
        progress(1, 1, 8)
        kind = "waiting"
    end = time.monotonic() + SECONDS
    while kind == "waiting" and not (folder.parent / "go").exists() and time.monotonic() < end:
        time.sleep(0.01)


def save_and_exit(folder, progress):
    """As a training does between two steps."""
    progress(1, 1, 8)
    time.sleep(0.2)
    (folder / "saved.txt").touch()
    raise SystemExit(143)


@pytest.fixture
def executor(monkeypatch):
    """Forks, for fresh processes would import for longer than they work; idle forks do not see that a pipe closes."""
    monkeypatch.setattr(workers, "EXIT_SECONDS", 0.1)
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda method: fork)
    executor = LocalExecutor(work, None, devices=("5", "GPU-7"))
    yield executor
    executor.close()


def task(root, kind):
    return Task(kind, kind, kind, root / kind, {}, {})


def events(executor, count):
    """The next events, in the order in which they came."""
    found, end = [], time.monotonic() + SECONDS
    while len(found) < count and time.monotonic() < end:
        found += executor.poll(0.1)
    return found


def test_a_killed_worker_fails_its_task_alone_and_is_replaced(executor, tmp_path):
    assert executor.free() == 2
    for kind in ("killed", "waiting"):
        executor.submit(task(tmp_path, kind))
    found = events(executor, 3)
    failed = next(event for event in found if isinstance(event, Outcome))
    assert (failed.address, failed.state) == ("killed", "failed")
    assert failed.error == "its process ended with exit code -9 (killed, or out of memory?)"
    assert {event.address for event in found if isinstance(event, Advance)} == {"killed", "waiting"}
    assert executor.free() == 1
    executor.submit(task(tmp_path, "next"))
    assert [event.state for event in events(executor, 2) if isinstance(event, Outcome)] == ["done"]
    (tmp_path / "go").touch()
    assert events(executor, 1) == [Outcome("waiting", "done")]
    devices = {kind: (tmp_path / kind / "device.txt").read_text() for kind in ("killed", "waiting", "next")}
    assert devices["killed"] != devices["waiting"]
    assert devices["next"] == devices["killed"], "the new worker has the device of the old one"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ or os.environ["CUDA_VISIBLE_DEVICES"] not in devices.values()


def test_an_idle_worker_that_died_is_replaced_before_it_is_given_work(executor, tmp_path):
    """Its end of the pipe is closed: sending it a task ended the whole sweep."""
    for worker in executor.workers:
        worker.process.kill()
        worker.process.join()
    executor.submit(task(tmp_path, "next"))
    assert [event.state for event in events(executor, 2) if isinstance(event, Outcome)] == ["done"]


def test_closing_ends_workers_at_work(executor, tmp_path):
    executor.submit(task(tmp_path, "waiting"))
    assert isinstance(events(executor, 1)[0], Advance)
    processes = [worker.process for worker in executor.workers]
    executor.close()
    assert not any(process.is_alive() for process in processes)
    assert not (tmp_path / "waiting" / "done.json").exists()


def test_closing_leaves_a_training_the_time_to_save_its_step(executor, tmp_path):
    executor.submit(task(tmp_path, "saving"))
    assert isinstance(events(executor, 2)[1], Advance)
    executor.close()
    assert (tmp_path / "saving" / "saved.txt").exists()
    assert not (tmp_path / "saving" / "failed.json").exists()

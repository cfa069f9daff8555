"""Locks: one owner, named to the others; a dead one's is taken over."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from eqvae.locks import Held, Lock, Owner, held_by

HOLD = """
import sys, time
from pathlib import Path
from eqvae.locks import Lock
with Lock(Path(sys.argv[1]), "the folder"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_owner_is_named(tmp_path, holder):
    with pytest.raises(Held, match=f"the cache is in use by process {holder.pid} on .+, since 20.*: wait for it"):
        Lock(tmp_path / ".lock", "the cache").acquire()
    owner = held_by(tmp_path / ".lock")
    assert (owner.pid, owner.host) == (holder.pid, Owner.here().host)


def test_a_dead_owners_lock_is_taken_over(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock.owner").is_file(), "a killed process cannot take its name away"
    assert held_by(tmp_path / ".lock") is None
    with Lock(tmp_path / ".lock", "the folder"):
        assert held_by(tmp_path / ".lock").pid == os.getpid()
    assert held_by(tmp_path / ".lock") is None
    assert not (tmp_path / ".lock.owner").exists()


def test_a_child_does_not_keep_its_dead_parents_lock(tmp_path):
    script = """
import os, signal, sys, time
from pathlib import Path
from eqvae.locks import Lock
Lock(Path(sys.argv[1]), "the folder").acquire()
child = os.fork()
if child == 0:
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", script, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.wait()
        try:
            with Lock(tmp_path / ".lock", "the folder"):
                os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def test_patience(tmp_path, holder):
    killer = threading.Timer(0.5, holder.kill)
    killer.start()
    started = time.monotonic()
    with Lock(tmp_path / ".lock", "the folder", patience_seconds=30):
        assert time.monotonic() - started > 0.4
    killer.join()


def test_asking_who_holds_it_keeps_nobody_out(tmp_path):
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            held_by(tmp_path / ".lock")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            with Lock(tmp_path / ".lock", "the folder"):
                pass
    finally:
        stop.set()
        asking.join()


def test_two_locks_of_one_process_exclude_each_other(tmp_path):
    first, second = (Lock(tmp_path / "deep/er/.lock", "the folder") for _ in range(2))
    with first, pytest.raises(Held, match=f"process {os.getpid()} "):
        second.acquire()
    second.release()  # which it does not hold
    with second:
        pass

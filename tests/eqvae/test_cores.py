"""Threads are no more than the cores that a process may use."""

import os

import pytest

from eqvae.cores import num_cores, threads_each


@pytest.mark.parametrize(
    ("cores", "processes", "allowed", "threads"),
    [(8, 2, None, 4), (8, 1, "3", 3), (2, 1, "1", 1), (2, 5, None, 1), (8, 2, "16", 4), (8, 2, "", 4), (8, 0, "0", 8)],
)
def test_a_process_has_its_share_and_no_more_than_the_user_allows(cores, processes, allowed, threads, monkeypatch):
    monkeypatch.setattr("eqvae.cores.num_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if allowed is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert threads_each(processes) == threads


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not bind processes to cores")
def test_cores_are_those_the_process_is_bound_to(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3})
    assert num_cores() == 1

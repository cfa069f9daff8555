"""Freed memory is kept where glibc is asked to, and only there."""

import platform
import subprocess
import sys

import pytest

# Two arrays of 20 MB are more than glibc leaves at the heap's end; 512 values are a page.
CHURN = """
import resource, sys
import numpy as np
from eqvae.heap import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def churn():
    first, second = (np.ones(20 * 2**17) for _ in range(2))
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    churn()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def churn(monkeypatch, how: str, **environment: str) -> tuple[str, int]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", CHURN, how], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_pages_are_not_fetched_again(monkeypatch):
    assert churn(monkeypatch, "leave")[1] > 10_000
    kept, faults = churn(monkeypatch, "keep")
    assert kept == "True"
    assert faults < 1000


def test_settings_of_the_user_stay(monkeypatch):
    assert churn(monkeypatch, "keep", MALLOC_ARENA_MAX="2")[0] == "False"

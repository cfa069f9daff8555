"""Processor cores, and the share that each of several processes computes with."""

import os


def num_cores() -> int:
    """Processor cores that this process may use; those that it was not bound to would only be waited for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(num_processes: int) -> int:
    """Threads that each of so many processes computes with: its share of the cores, or OMP_NUM_THREADS if less."""
    share = max(1, num_cores() // max(1, num_processes))
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(allowed)) if allowed.isdigit() and int(allowed) else share

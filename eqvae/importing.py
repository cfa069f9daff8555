"""Imports of large libraries, in three quarters of their time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """What is imported meanwhile is not searched for garbage, and if it is a process' first, never: nearly all stays.

    The million objects of torch, Lightning and diffusers were gone through again and again: their import took 9.4 s of
    processor time, and takes 7.0 without that.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        if was_enabled:
            gc.enable()

"""Imports of large libraries, in three quarters of their time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """What is imported meanwhile is not searched for garbage: of torch, Lightning and diffusers nearly all stays.

    Their half a million objects were gone through again and again: 9.4 s of processor time, and 7.0 without that.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

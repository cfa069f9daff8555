"""Memory that a process keeps: what a tensor leaves is there for the next one.

glibc gives the end of its heap back to the system as soon as a few tensors of some megabytes are freed, and fetches it
again for the next batch, page by page: a quarter of the time of EfficientNet-Lite0 on small images (docs/speed.md).
"""

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt, malloc.h
LARGEST = 32 << 20  # bytes of what lies on the heap; larger ones are mapped one by one: glibc takes no higher bound
KEPT = (1 << 31) - 1  # bytes at the heap's end that are not given back: all that an int can say
OWN_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed; whether it does. Other C libraries and settings of the user stay as they are."""
    if any(name.startswith(OWN_SETTINGS) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST) and mallopt(TRIM_THRESHOLD, KEPT))

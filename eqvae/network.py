"""Whether a server can be reached, known within seconds: libraries retry for half a minute and longer."""

import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants

REACH_SECONDS = 3.0
PORTS = {"http": 80, "https": 443}


@contextmanager
def quick_hub() -> Iterator[bool]:
    """The hub for what runs meanwhile; where it does not answer, cached files alone, as with HF_HUB_OFFLINE=1.

    Yields whether it answers.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_reachable(constants.ENDPOINT)
    try:
        with warnings.catch_warnings():  # what diffusers passes on, and its user has no say in
            warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks` argument is deprecated")
            yield not constants.HF_HUB_OFFLINE
    finally:
        constants.HF_HUB_OFFLINE = before


@cache
def is_reachable(url: str) -> bool:
    """Whether the server of an address, or the proxy to it, takes a connection within a few seconds; files are here."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        return True
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}") if proxy else parts
    address = (parts.hostname, parts.port or PORTS.get(parts.scheme, PORTS["https"]))
    ended, reached = threading.Event(), threading.Event()

    def connect() -> None:
        with suppress(OSError), socket.create_connection(address, REACH_SECONDS):
            reached.set()
        ended.set()

    threading.Thread(target=connect, daemon=True).start()  # because looking up a name takes no timeout
    ended.wait(REACH_SECONDS)
    return reached.is_set()

"""What a training prints: its own messages, on standard output, and nothing that Lightning says about itself.

Each message that is left out is named by its logger and its beginning; whatever else Lightning says stays.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LEFT_OUT = {
    "lightning.fabric.utilities.seed": ("Seed set to ",),
    "lightning.pytorch.utilities.rank_zero": (
        "GPU available: ",
        "TPU available: ",
        "💡 Tip: ",
        "`Trainer(limit_",
        "`Trainer(val_check_interval=",
        "`Trainer.fit` stopped: `max_steps=",
    ),
    "lightning.pytorch.trainer.connectors.checkpoint_connector": ("`weights_only` was not set",),
}
"""Beginnings of messages, by the logger that they come from."""

LEFT_OUT_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # of torch, at a call of Lightning's
    "predict returned None if it was on purpose",  # it is: batches go into the cache
    "You're resuming from a checkpoint that ended before the epoch ended",  # a run is one epoch, and resumes exactly
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # validation runs whole on every process
)


class _WithoutNoise(logging.Filter):
    """Drops records that begin in one of several ways."""

    def __init__(self, beginnings: tuple[str, ...]):
        super().__init__()
        self.beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginnings)


_FILTERS = {name: _WithoutNoise(beginnings) for name, beginnings in LEFT_OUT.items()}


def leave_out_noise() -> None:
    """Silence those messages and warnings in this process; asked again, nothing changes."""
    for name, noise in _FILTERS.items():
        logging.getLogger(name).addFilter(noise)
    for message in LEFT_OUT_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


class _Printed(logging.Handler):
    """Prints to what is standard output now, above a progress line where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stdout, flush=True)


@contextmanager
def messages_printed() -> Iterator[None]:
    """Messages of the trainer and of our modules go to standard output meanwhile: standard error is for what is wrong.

    In place of the handler with which Lightning writes them to the standard error of the time it was imported.
    """
    logger = logging.getLogger("lightning.pytorch")
    before, logger.handlers = logger.handlers, []
    logger.addHandler(_Printed())
    try:
        yield
    finally:
        logger.handlers = before

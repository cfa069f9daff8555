"""Settings of Lightning's trainer that would leave something half done which looks whole."""

import operator
from collections.abc import Callable, Mapping
from typing import Any


def _is_some(value: Any) -> bool:
    return value != 0


def _is_all(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value == 1.0)  # a whole number is one of batches


PARTIAL: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool], str], ...] = (
    (("fit",), "fast_dev_run", operator.not_, "it leaves what looks like a whole training: use trainer.max_steps"),
    (("fit",), "limit_train_batches", _is_some, "nothing would be trained: leave it out, max_steps ends a training"),
    (("fit",), "max_epochs", _is_some, "nothing would be trained: leave it out, trainer.max_steps ends a training"),
    (("fit",), "val_check_interval", _is_some, "use trainer.limit_val_batches 0 for a training without validation"),
    (("validate",), "limit_val_batches", _is_some, "nothing would be measured: leave it out"),
    (("test",), "limit_test_batches", _is_some, "nothing would be measured: leave it out"),
    (("predict",), "limit_predict_batches", _is_all, "a cache holds all images: limit those of `data`"),
)
"""Subcommands, key of the trainer, whether a value of it is harmless, and what to do instead."""


def require_whole_work(subcommand: str | None, settings: Mapping[str, Any]) -> None:
    """Refuse such a setting.

    Args:
        subcommand: of `train.py`; None: nothing is run by it.
        settings: of the trainer.

    Raises:
        ValueError: naming the key, and what to do instead.
    """
    for subcommands, key, is_harmless, advice in PARTIAL:
        value = settings.get(key)
        if subcommand in subcommands and not is_harmless(value):
            raise ValueError(f"trainer.{key} {value}: {advice}")
    limit, epochs = settings.get("limit_train_batches"), settings.get("max_epochs")
    if subcommand == "fit" and not _is_all(limit) and epochs not in (None, 1):
        raise ValueError(
            f"trainer.limit_train_batches {limit} with trainer.max_epochs {epochs} would read the same batches again "
            "and again: leave one of them out"
        )

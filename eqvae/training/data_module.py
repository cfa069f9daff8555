"""The data that a trainer was given."""

from typing import Any

from lightning import Trainer


def data_module(trainer: Trainer) -> Any:
    """The data module of `trainer`, None without one; Lightning sets this attribute, but does not declare it."""
    return getattr(trainer, "datamodule", None)

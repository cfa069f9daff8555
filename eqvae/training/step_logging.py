"""Logging of training steps: nothing on steps that are not logged, one reduction and one read on those that are."""

from typing import Any

import torch
from torch import Tensor

from eqvae.processes import mean_over_processes


def is_logged(trainer: Any) -> bool:
    """Whether Lightning hands what the coming step logs to the loggers (`log_every_n_steps`)."""
    return trainer._logger_connector.should_update_logs or bool(trainer.fast_dev_run)


def log_nothing(trainer: Any) -> None:
    """Of a batch without a step; of manual optimization Lightning would log the last step's values once more."""
    trainer._results.reset()


def means(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of each term over the batches of a step, all of which have the same."""
    if len(batches) == 1:
        return batches[0]
    return {name: torch.stack([terms[name] for terms in batches]).mean() for name in batches[0]}


def log_terms(module: Any, terms: dict[str, Tensor], shown: str) -> None:
    """Log the means of what a training step computed, over samples and processes, as `train/<name>`.

    On other steps than every `log_every_n_steps`-th this does nothing, and the device is not waited for.

    Args:
        module: the LightningModule, inside its `training_step`.
        terms: scalars or values per sample on the module's device, the same names in every process.
        shown: name of the term for the progress bar, which keeps it until the next logged step.
    """
    if not is_logged(module.trainer):
        return
    values = mean_over_processes(torch.stack([value.detach().mean() for value in terms.values()])).cpu()
    for name, value in zip(terms, values, strict=True):
        module.log(f"train/{name}", value, prog_bar=name == shown)

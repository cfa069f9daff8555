"""Exponential moving averages of the weights, through Lightning's averaging callback."""

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from eqvae.training.sharding import copy_full_tensor, full_state, full_tensor, load_full_state

FURTHER_AVERAGES = "further_averages"


class ExponentialMovingAverage(WeightAveraging):
    """Averages once per step of the trained network, validates with the average, and keeps both sets apart.

    Starts as a copy of the initial weights, as the public trainers do. Checkpoints hold the averaged weights under
    `state_dict` and the raw ones under `current_model_state`; after `fit` the module holds the average.

    Several decays are averaged at once. The first is the one that validates and is exported; checkpoints hold the
    weights of the others under `further_averages`, by decay ("0.999"), and the list of all under `averaging_decays`.

    Args:
        decay: share of the old average that each step keeps; 0.9999 in the papers, for some 10,000 steps and more.
            A list keeps several averages.

    Raises:
        ValueError: for a decay outside [0, 1), an empty list, or one with repetitions.
    """

    def __init__(self, decay: float | list[float] = 0.9999):
        decays = list(decay) if isinstance(decay, (list, tuple)) else [decay]
        if not decays or len(set(decays)) < len(decays):
            raise ValueError(f"decay of the moving average: give one or several different numbers, got {decay}")
        for value in decays:
            if not 0 <= value < 1:
                raise ValueError(f"decay of the moving average must lie in [0, 1), got {value}")
        super().__init__(use_buffers=False)
        self.decay, self.further_decays = decays[0], decays[1:]
        self.further_averages: dict[str, dict[str, Tensor]] = {}
        self._swapped = False

    @property
    def averaged_module(self) -> Any:
        """A copy of the module with the averaged weights of the first decay, during `fit`; not to be changed."""
        assert self._average_model is not None, "there is one during fit"
        return self._average_model.module

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        # The module reaches its device only later; an average left behind would cost a copy of all weights a step.
        device = trainer.strategy.root_device
        self._average_model = AveragedModel(pl_module, device, use_buffers=self._use_buffers, **self._kwargs)
        self._num_averaged = 1  # the copy counts: the first update blends instead of replacing
        self.averaged_module.configure_model()  # sharded like the module itself, where a strategy shards
        self.further_averages = {
            str(decay): {
                name: parameter.detach().clone() for name, parameter in self.averaged_module.named_parameters()
            }
            for decay in self.further_decays
        }

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the parameters and their averages, once: walking the modules takes longer than a small update."""
        trained = {name: value.detach() for name, value in pl_module.named_parameters() if value.requires_grad}
        averages = dict(self.averaged_module.named_parameters())
        pairs = [(self.decay, averages), *((float(key), average) for key, average in self.further_averages.items())]
        self._current = list(trained.values())
        self._averages = [(decay, [average[name].detach() for name in trained]) for decay, average in pairs]
        self._buffers = [list(module.buffers()) for module in (self.averaged_module, pl_module)]  # not averaged

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update after each optimizer step; nothing is read from the device."""
        if trainer.global_step <= self._latest_update_step:
            return
        self._latest_update_step = trainer.global_step
        self._num_averaged += 1
        for decay, average in self._averages:
            torch._foreach_lerp_(average, self._current, 1 - decay)
        averaged, current = self._buffers
        if averaged:
            torch._foreach_copy_(averaged, current)

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self._average_model is not None:
            self._swap_models(pl_module)
            self._swapped = True

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._restore(pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        # Checkpoint callbacks run last: what they save on an exception must not be swapped.
        self._restore(pl_module)

    def _restore(self, pl_module: Any) -> None:
        if self._swapped:
            self._swap_models(pl_module)
            self._swapped = False

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._average_model is None:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)
            return
        states = [full_state(self.averaged_module), checkpoint["state_dict"]]
        # In a validation the module has the averaged weights, and the copy the raw ones.
        checkpoint["state_dict"], checkpoint["current_model_state"] = reversed(states) if self._swapped else states
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self._num_averaged)}
        checkpoint["averaging_decays"] = [self.decay, *self.further_decays]
        checkpoint[FURTHER_AVERAGES] = {
            decay: {name: full_tensor(value) for name, value in average.items()}
            for decay, average in self.further_averages.items()
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._average_model is None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
            return
        kept = checkpoint.get("averaging_decays", [])
        load_full_state(self.averaged_module, averaged_weights(checkpoint, self.decay if self.decay in kept else None))
        if "current_model_state" in checkpoint:
            self._num_averaged = int(checkpoint["averaging_state"]["n_averaged"])
            load_full_state(pl_module, checkpoint["current_model_state"])
        else:
            rank_zero_warn("the checkpoint holds no moving average: it starts as a copy of the weights")
        for decay, average in self.further_averages.items():
            if float(decay) not in kept:
                raise ValueError(
                    f"the checkpoint holds no moving average of decay {decay}, only {kept or [self.decay]}: resume "
                    "with these decays"
                )
            stored = averaged_weights(checkpoint, float(decay))
            for name, value in average.items():
                copy_full_tensor(value, stored[name])


def averaged_weights(checkpoint: dict[str, Any], decay: float | None = None) -> dict[str, Tensor]:
    """The weights of one decay in a checkpoint of `ExponentialMovingAverage`; None: those of the first.

    Raises:
        ValueError: naming the decays that the checkpoint holds.
    """
    decays = checkpoint.get("averaging_decays", [])
    if decay is None or (decays and decay == decays[0]):
        return checkpoint["state_dict"]
    if decay not in decays:
        raise ValueError(f"no moving average of decay {decay}: the checkpoint holds {decays or 'none'}")
    return checkpoint["state_dict"] | checkpoint[FURTHER_AVERAGES][str(decay)]

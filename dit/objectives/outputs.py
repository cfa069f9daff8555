"""What an objective needs of a network's outputs. Broadcasting would let some others pass, as wrong losses."""

from typing import Any

from torch import Tensor


def require_channels(objective: Any, output: Tensor, channels: int) -> None:
    """Refuse predictions [B, ., h, w] of another number of channels.

    Raises:
        ValueError: naming both numbers.
    """
    if output.shape[1] != channels:
        raise ValueError(
            f"{type(objective).__name__} needs a network of {channels} output channels, this one has "
            f"{output.shape[1]}: set learn_sigma of model.init_args.backbone and of model.init_args.objective alike"
        )

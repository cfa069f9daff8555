"""How convolutions see beyond the image's border: zeros, as published, or its reflection.

Reflection is the convention of the EQ-VAEs for SDXL: every convolution that pads does so by reflection. The
down-sampling of the encoder keeps its row and column of zeros at the bottom and at the right, which is also why no
encoder of this kind commutes exactly with a quarter turn.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import AutoencoderKL, ModelMixin, VQModel
from torch import nn

PADDING_MODES = ("zeros", "reflect")
CHOOSING = (AutoencoderKL, VQModel)


def padding_mode(model: ModelMixin) -> str:
    """What the model's config says; "zeros" where it says nothing."""
    return model.config.get("padding_mode", "zeros")


def set_padding_mode(model: ModelMixin, mode: str | None) -> None:
    """Pad this way from now on, and write it into the config; None takes what the config says.

    Raises:
        ValueError: naming the modes, if it is none of them, or for a class whose layers pad in several ways.
    """
    mode = mode or model.config.get("padding_mode")
    if mode is None:
        return  # as its class has it
    if mode not in PADDING_MODES:
        raise ValueError(f"padding_mode {mode!r} is unknown: use one of {', '.join(PADDING_MODES)}")
    if not isinstance(model, CHOOSING):
        names = " and ".join(each.__name__ for each in CHOOSING)
        raise ValueError(f"padding_mode {mode}: {type(model).__name__} pads in its own way, {names} alone can choose")
    if mode != padding_mode(model):
        model.register_to_config(padding_mode=mode)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and any(module.padding):
            module.padding_mode = mode


@contextmanager
def known_to_config() -> Iterator[None]:
    """Silences diffusers' warning that it ignores `padding_mode`: here it is not ignored."""
    logger = logging.getLogger("diffusers.configuration_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

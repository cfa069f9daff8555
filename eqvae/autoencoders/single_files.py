"""One file with the weights of an autoencoder: whose reader it is decided by the class that its config names."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ModelMixin
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from torch import Tensor

from eqvae.autoencoders import ldm
from eqvae.autoencoders.configs import OWN_LEVELS
from eqvae.autoencoders.constants import LISTS
from eqvae.autoencoders.exporting import CONFIG
from eqvae.autoencoders.families import create_model, expand_family
from eqvae.autoencoders.normalization import Normalization
from eqvae.errors import first_line
from eqvae.weights import read_tensors

CONSTANTS = ("scaling_factor", *LISTS)
CONSTANT_WEIGHTS = {"latents_mean", "bn.running_mean"}


def load_single_file(path: Path, config: Mapping) -> tuple[ModelMixin, Normalization | None, bool]:
    """A model in float32, the normalization that the file itself tells, and whether one is known at all.

    Args:
        path: of a file in the layout of diffusers or, as far as diffusers converts it, in that of its publication; of
            `AutoencoderKL` and `VQModel` see `eqvae.autoencoders.ldm`.
        config: diffusers config entries with `_class_name`, or a `family`. Without one it is of those two.

    Raises:
        ValueError: one line with the file and what does not fit.
    """
    config = expand_family(config)
    if config.get("_class_name", OWN_LEVELS[0]) in OWN_LEVELS:
        return *ldm.load_single_file(path, config), True
    weights = read_tensors(path)
    with torch.device("meta"):
        empty = create_model(config)
    shapes = {name: value.shape for name, value in empty.state_dict().items()}
    try:
        own = _own_weights(weights, shapes, len(config.get("block_out_channels", ())))
        model = _converted(weights, empty) if own is None else create_model(config)
        if own is not None:
            model.load_state_dict(own)
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"file {path} is no {config['_class_name']} of this config: {first_line(error)}") from None
    is_known = own is not None and not CONSTANT_WEIGHTS.isdisjoint(own)
    return model.float().eval(), None, is_known or any(config.get(name) is not None for name in CONSTANTS)


def _own_weights(
    weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], num_levels: int
) -> dict[str, Tensor] | None:
    """The weights of a model in float32, in whichever layout and under whichever prefix they all are; else None."""
    for prefix in ldm.PREFIXES:
        for spelled in ({name: name for name in shapes}, {name: ldm.ldm_name(name, num_levels) for name in shapes}):
            found = {name: weights.get(prefix + spelling) for name, spelling in spelled.items()}
            if all(value is not None for value in found.values()):
                return {name: _of_shape(name, found[name], shapes[name]) for name in found}
    return None


def _of_shape(name: str, value: Tensor | None, shape: torch.Size) -> Tensor:
    """Matrices may be kernels of 1 x 1; copied, since files are mapped into memory."""
    assert value is not None
    if value.numel() != shape.numel():
        raise ValueError(f"{name} has shape {list(value.shape)} instead of {list(shape)}")
    return value.to(torch.float32, copy=True).reshape(shape)


def _converted(weights: Mapping[str, Tensor], empty: ModelMixin) -> ModelMixin:
    """By the converter of diffusers, which reads the layout that the class was published in."""
    name, model_class = type(empty).__name__, cast(Any, type(empty))
    if name not in SINGLE_FILE_LOADABLE_CLASSES:
        raise ValueError("its keys are not those of diffusers, which converts no other layout of it")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_text(json.dumps({**empty.config, "_class_name": name}))
        return model_class.from_single_file(dict(weights), config=folder, local_files_only=True)

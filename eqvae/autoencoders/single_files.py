"""One file with the weights of an autoencoder: whose reader it is decided by the class that its config names."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers import ModelMixin
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from torch import Tensor

from eqvae.autoencoders import ldm
from eqvae.autoencoders.configs import OWN_LEVELS
from eqvae.autoencoders.constants import LISTS
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
    with torch.device("meta"):
        empty = create_model(config)
    try:
        own = _own_weights(read_tensors(path), empty, len(config.get("block_out_channels", ())))
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"file {path} is no {config['_class_name']} of this config: {first_line(error)}") from None
    model = create_model(config)
    model.load_state_dict(own, strict=False)  # what may be missing is checked
    is_known = not CONSTANT_WEIGHTS.isdisjoint(own)
    return model.float().eval(), None, is_known or any(config.get(name) is not None for name in CONSTANTS)


def _own_weights(weights: Mapping[str, Tensor], empty: ModelMixin, num_levels: int) -> dict[str, Tensor]:
    """All weights of a model in float32 by its own names; constants of a normalization may be missing.

    Raises:
        ValueError: naming keys that are missing, or that the model has not: its config is another's then.
    """
    shapes = {name: value.shape for name, value in empty.state_dict().items()}
    layout = _layout_of(weights, list(shapes), num_levels)
    if layout is None:
        weights, layout = _converted(weights, empty), ("", {name: name for name in shapes})
    prefix, spellings = layout
    keys = {name: prefix + spelling for name, spelling in spellings.items()}
    roots = tuple({f"{prefix}{spelling.split('.')[0]}." for spelling in spellings.values()})
    missing = [key for name, key in keys.items() if key not in weights and name not in LISTS]
    unexpected = sorted(key for key in weights if key.startswith(roots) and key not in keys.values())
    if missing or unexpected:
        raise ValueError(f"missing keys {ldm.first_five(missing)}, unexpected keys {ldm.first_five(unexpected)}")
    return {name: _of_shape(name, weights[key], shapes[name]) for name, key in keys.items() if key in weights}


def _layout_of(weights: Mapping[str, Tensor], names: list[str], num_levels: int) -> tuple[str, dict[str, str]] | None:
    """Prefix and spelling under which most of a model's names are; None where that is less than half of them."""
    spellings = ({name: name for name in names}, {name: ldm.ldm_name(name, num_levels) for name in names})
    layouts = [(prefix, spelled) for prefix in ldm.PREFIXES for spelled in spellings]
    counts = [sum(prefix + key in weights for key in spelled.values()) for prefix, spelled in layouts]
    return layouts[counts.index(max(counts))] if 2 * max(counts) > len(names) else None


def _of_shape(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Matrices may be kernels of 1 x 1; copied, since files are mapped into memory."""
    if value.numel() != shape.numel():
        raise ValueError(f"{name} has shape {list(value.shape)} instead of {list(shape)}")
    ldm.require_floats(name, value)
    return value.to(torch.float32, copy=True).reshape(shape)


def _converted(weights: Mapping[str, Tensor], empty: ModelMixin) -> dict[str, Tensor]:
    """By the converter of diffusers, which reads the layout that the class was published in."""
    name = type(empty).__name__
    if name not in SINGLE_FILE_LOADABLE_CLASSES:
        raise ValueError("its keys are not those of diffusers, which converts no other layout of it")
    convert: Callable[..., dict[str, Tensor]] = SINGLE_FILE_LOADABLE_CLASSES[name]["checkpoint_mapping_fn"]
    return convert(checkpoint=dict(weights), config=dict(empty.config))

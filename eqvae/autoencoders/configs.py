"""What an autoencoder's config may say, checked entry by entry before diffusers builds anything of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from eqvae.autoencoders.registry import defaults_of, import_class
from eqvae.errors import first_line
from eqvae.records import FLAG, LIST, NUMBER, RECORD, Check, one_of, or_none, require_entries
from eqvae.weights import read_tensors

DOWN_BLOCKS = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
UP_BLOCKS = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
LISTS = ("block_out_channels", "down_block_types", "up_block_types")
OWN_LEVELS = ("AutoencoderKL", "VQModel")
"""Classes whose entries are listed here one by one; those of others are like their defaults."""
MAXIMUM_ENTRIES, MAXIMUM_SIDE = 1 << 12, 1 << 14
MAXIMUM_LEVELS, MAXIMUM_CHANNELS, MAXIMUM_LAYERS, MAXIMUM_CODES = 8, 1 << 14, 16, 1 << 22


def _count(most: int) -> Check:
    return f"a whole number from 1 to {most}", lambda value: type(value) is int and 1 <= value <= most


def _list_of(check: Check) -> Check:
    words = f"a list of 1 to {MAXIMUM_LEVELS}, each {check[0]}"
    return (
        words,
        lambda value: (
            isinstance(value, list | tuple) and 1 <= len(value) <= MAXIMUM_LEVELS and all(map(check[1], value))
        ),
    )


CHANNELS = _count(MAXIMUM_CHANNELS)
ENTRIES: dict[str, Check] = {
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "latent_channels": CHANNELS,
    "vq_embed_dim": or_none(CHANNELS),
    "num_vq_embeddings": _count(MAXIMUM_CODES),
    "block_out_channels": _list_of(CHANNELS),
    "down_block_types": _list_of(one_of(DOWN_BLOCKS)),
    "up_block_types": _list_of(one_of(UP_BLOCKS)),
    "layers_per_block": _count(MAXIMUM_LAYERS),
    "norm_num_groups": CHANNELS,
    "norm_type": one_of(("group", "spatial")),
    "act_fn": one_of(("silu", "swish", "mish", "gelu", "relu")),
    "sample_size": _count(1 << 20),
    "scaling_factor": or_none(NUMBER),
    "shift_factor": or_none(NUMBER),
    "latents_mean": or_none(LIST),
    "latents_std": or_none(LIST),
    **dict.fromkeys(("force_upcast", "use_quant_conv", "use_post_quant_conv"), FLAG),
    **dict.fromkeys(("mid_block_add_attention", "lookup_from_codebook"), FLAG),
}


def require_config(config: Any, where: str) -> None:
    """Refuse a config with an entry of another kind or range; what is left out has diffusers' default.

    Args:
        where: what it is of, for the message.

    Raises:
        ValueError: naming the entry.
    """
    try:
        require_entries({"config": config}, {"config": RECORD})
        name = config.get("_class_name", OWN_LEVELS[0])
        checks = ENTRIES if name in OWN_LEVELS else _checks_of(name)
        require_entries(config, {name: check for name, check in checks.items() if name in config})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if name not in OWN_LEVELS:
        return
    lengths = {name: len(config[name]) for name in LISTS if name in config}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{where}: its levels differ in number ({counts})")


def _checks_of(name: str) -> dict[str, Check]:
    """Of the entries of a class: each of the kind of its default, and no larger than what is published."""
    return {entry: _like(entry, default) for entry, default in defaults_of(name).items()}


def _like(entry: str, default: Any) -> Check:
    """What a value of an entry with this default may be."""
    most = MAXIMUM_LAYERS if "layers" in entry or "blocks" in entry else MAXIMUM_SIDE
    words = {bool: "true or false", str: "a text", tuple: "a list", list: "a list"}.get(
        type(default), f"a number up to {most}"
    )
    return f"{words}, like {default!r:.40}", lambda value: _is_like(value, default, most)


def _is_like(value: Any, default: Any, most: int) -> bool:
    if value is None or default is None:
        return value is None or _is_small(value, most)
    if not isinstance(default, list | tuple | str) and isinstance(value, list | tuple) and default is not None:
        return False
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and _is_small(value, most)
    if isinstance(default, str):
        return isinstance(value, str | list | tuple) and _is_small(value, most)
    if isinstance(default, bool):
        return isinstance(value, bool)
    return _is_small(value, most)


def _is_small(value: Any, most: int) -> bool:
    """Whether a value, and all that is in it, is a text, a flag or a finite number no larger than that."""
    if isinstance(value, list | tuple):
        return len(value) <= MAXIMUM_ENTRIES and all(_is_small(each, most) for each in value)
    return isinstance(value, str | bool) or (isinstance(value, int | float) and abs(value) <= most)


def require_weights_for(config: Mapping[str, Any], folder: Path, where: str) -> None:
    """Refuse a config of a network that is larger than all weights beside it, before memory is taken for it.

    Raises:
        ValueError: with both numbers, or naming weights that cannot be read.
    """
    held = sum(_held(path, where) for path in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")))
    least = _least_weights(config) if config.get("_class_name") in OWN_LEVELS else _count_weights(config)
    if least > held:
        raise ValueError(f"{where}: its config describes {least:,} weights and more, its files hold {held:,}")


def _held(path: Path, where: str) -> int:
    """Numbers in a file of weights."""
    try:
        if path.suffix == ".bin":
            return sum(value.numel() for value in read_tensors(path).values())
        with safe_open(path, "pt") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except Exception as error:  # a damaged header can raise anything
        raise ValueError(f"{where}: {path.name}: {first_line(error)}") from None


def _count_weights(config: Mapping[str, Any]) -> int:
    """Of a model that takes no memory; ValueError for a config that makes none."""
    name = config["_class_name"]
    own = {key: value for key, value in config.items() if key in defaults_of(name)}
    try:
        with torch.device("meta"):
            model = import_class(name)(**own)
    except Exception as error:  # whatever its constructor makes of it
        raise ValueError(f"its config is impossible: {first_line(error)}") from None
    return sum(value.numel() for value in model.parameters())


def _least_weights(config: Mapping[str, Any]) -> int:
    """Of the square convolutions 3 x 3 of all blocks, the convolutions at both ends, and the codebook."""
    channels, layers = config.get("block_out_channels", (64,)), config.get("layers_per_block", 1)
    latent = config.get("latent_channels", 1)
    ends = channels[0] * config.get("in_channels", 1) + channels[-1] * latent
    codebook = config.get("num_vq_embeddings", 0) * (config.get("vq_embed_dim") or latent)
    return 9 * (sum((2 * layers + 1) * width**2 for width in channels) + ends) + codebook

"""What an autoencoder's config may say, checked entry by entry before diffusers builds anything of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from eqvae.errors import first_line
from eqvae.records import FLAG, LIST, NUMBER, RECORD, Check, one_of, or_none, require_entries

CLASSES = ("AutoencoderKL", "VQModel")
DOWN_BLOCKS = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
UP_BLOCKS = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
LISTS = ("block_out_channels", "down_block_types", "up_block_types")
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
    "_class_name": one_of(CLASSES),
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
    "scaling_factor": NUMBER,
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
        require_entries(config, {name: check for name, check in ENTRIES.items() if name in config})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    lengths = {name: len(config[name]) for name in LISTS if name in config}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{where}: its levels differ in number ({counts})")


def require_weights_for(config: Mapping[str, Any], folder: Path, where: str) -> None:
    """Refuse a config of a network that is larger than all weights beside it, before memory is taken for it.

    Raises:
        ValueError: with both numbers, or naming weights that cannot be read.
    """
    held = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                held += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        except Exception as error:  # a damaged header can raise anything
            raise ValueError(f"{where}: {path.name}: {first_line(error)}") from None
    least = _least_weights(config)
    if least > held:
        raise ValueError(f"{where}: its config describes {least:,} weights and more, its files hold {held:,}")


def _least_weights(config: Mapping[str, Any]) -> int:
    """Of the square convolutions 3 x 3 of all blocks, the convolutions at both ends, and the codebook."""
    channels, layers = config.get("block_out_channels", (64,)), config.get("layers_per_block", 1)
    latent = config.get("latent_channels", 1)
    ends = channels[0] * config.get("in_channels", 1) + channels[-1] * latent
    codebook = config.get("num_vq_embeddings", 0) * (config.get("vq_embed_dim") or latent)
    return 9 * (sum((2 * layers + 1) * width**2 for width in channels) + ends) + codebook

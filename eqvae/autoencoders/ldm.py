"""Single files: the key layout of latent-diffusion and taming-transformers, and diffusers' own, in and out.

A layout is a spelling of the same weights. A diffusers name is respelled as an LDM name by `ldm_name`; the way back is
a table over the model's own names, so missing and unexpected keys are known exactly.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, VQModel
from safetensors import SafetensorError, safe_open
from torch import Tensor

from eqvae.autoencoders.constants import LISTS
from eqvae.autoencoders.families import create_model, expand_family, published_constants
from eqvae.autoencoders.normalization import Normalization
from eqvae.hashes import KEY, require_safetensors, write_safetensors
from eqvae.weights import read_tensors

PREFIXES = ("", "first_stage_model.", "vae.")  # of an autoencoder among the weights of other models
TRAINED = {
    "autoencoder.": "a training of stage 1: give the autoencoder folder that `fit` has left beside its checkpoints",
    "backbone.": "a generator, stage 2: give the autoencoder that made its latents",
}
"""What checkpoints of `train.py` are, by how their weights are called."""
ANCHORS = ("encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
FIRST_BLOCK = "encoder.down.0.block.0.conv1.weight"
NOT_WEIGHTS = re.compile(r"loss\.|model_ema\.")  # critic and perceptual network, averages kept beside the weights
CONFIG, NORMALIZATION = "eqvae.config", "eqvae.normalization"  # in the metadata of a safetensors file
CONSTANTS = {"scaling_factor", "shift_factor", *LISTS}
RESPELLINGS = (
    (r"\.down_blocks\.", ".down."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.resnets\.", ".block."),
    (r"\.attentions\.", ".attn."),
    (r"\.(down|up)samplers\.0\.", r".\1sample."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_out\.0\.|\.proj_attn\.", ".proj_out."),  # after the bar: diffusers' names before 0.18
    (r"\.to_q\.|\.query\.", ".q."),
    (r"\.to_k\.|\.key\.", ".k."),
    (r"\.to_v\.|\.value\.", ".v."),
)
ATTENTION_WEIGHT = re.compile(r"\.(attn_1|attn\.\d+)\.(q|k|v|proj_out)\.weight$")


def ldm_name(name: str, num_levels: int) -> str:
    """The LDM spelling of a diffusers name; LDM counts the decoder's levels from the highest resolution."""
    name = re.sub(r"\.up_blocks\.(\d+)\.", lambda level: f".up.{num_levels - 1 - int(level[1])}.", name)
    for pattern, replacement in RESPELLINGS:
        name = re.sub(pattern, replacement, name)
    return name


def load_single_file(path: Path, config: Mapping) -> tuple[ModelMixin, Normalization | None]:
    """A model in float32 from a safetensors file or a torch checkpoint; its architecture is read off the shapes.

    Args:
        path: of a file in any layout, the autoencoder alone or among the weights of other models.
        config: diffusers config entries, or a `family`, for what shapes do not tell. Constants of a normalization that
            are given themselves come before the one that the file keeps.

    Raises:
        ValueError: one line with the file; the first five missing and unexpected keys and the layouts tried, the
            families that it may be of, or what config and shapes disagree on.
    """
    weights, spellings = _respell(path, select_autoencoder(path, read_tensors(path)))
    if FIRST_BLOCK not in weights:
        raise ValueError(_mismatch(path, [FIRST_BLOCK], list(spellings.values())))
    stored, normalization = _read_metadata(path)
    if CONSTANTS & config.keys():
        stored, normalization = {key: stored[key] for key in stored.keys() - CONSTANTS}, None
    model = _empty_model(path, weights, stored | expand_family(config))
    _copy_weights(path, model, weights, spellings)
    return model.eval(), normalization


def save_ldm(model: ModelMixin, normalization: Normalization | None, path: Path) -> None:
    """Write a safetensors file in the key layout of latent-diffusion and taming, attention as 1x1 convolutions.

    The metadata hold the diffusers config and the normalization, where it is known, so that `load_autoencoder` needs no
    guess about what shapes do not tell: scaling, groups of the normalization layers, padding. They hold the file's
    sha256, too.

    Raises:
        ValueError: for a model that these do not have.
    """
    if not isinstance(model, (AutoencoderKL, VQModel)):
        raise ValueError(f"latent-diffusion and taming have no layout for {type(model).__name__}: export a folder")
    num_levels = len(model.config["block_out_channels"])
    state = {}
    for name, value in model.state_dict().items():
        spelled, value = ldm_name(name, num_levels), value.detach().cpu().contiguous()
        state[spelled] = value[:, :, None, None] if ATTENTION_WEIGHT.search(spelled) else value
    config = {key: value for key, value in model.config.items() if key == "_class_name" or key[0] != "_"}
    about = {} if normalization is None else {NORMALIZATION: json.dumps(normalization.to_dict())}
    write_safetensors(path, state, {"format": "pt", CONFIG: json.dumps(config)} | about)


def infer_architecture(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Diffusers config entries of weights in LDM spelling, from names and shapes alone.

    GroupNorm has 32 groups, as in all published models: shapes do not show them.
    """
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    channels = [shapes[name][0] for name in _numbered(shapes, "encoder.down.{}.block.0.conv1.weight")]
    levels = range(len(channels))
    down = ["Attn" * (f"encoder.down.{level}.attn.0.q.weight" in shapes) for level in levels]
    up = ["Attn" * (f"decoder.up.{level}.attn.0.q.weight" in shapes) for level in reversed(levels)]
    config = {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": channels,
        "down_block_types": [f"{attention}DownEncoderBlock2D" for attention in down],
        "up_block_types": [f"{attention}UpDecoderBlock2D" for attention in up],
        "layers_per_block": len(_numbered(shapes, "encoder.down.0.block.{}.conv1.weight")),
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in shapes,
    }
    if "quantize.embedding.weight" in shapes:
        num_codes, dimension = shapes["quantize.embedding.weight"]
        return config | {"_class_name": "VQModel", "num_vq_embeddings": num_codes, "vq_embed_dim": dimension}
    convolutions = {f"use_{name}": f"{name}.weight" in shapes for name in ("quant_conv", "post_quant_conv")}
    return config | {"_class_name": "AutoencoderKL"} | convolutions


def _numbered(shapes: Mapping, pattern: str) -> list[str]:
    """The names that fit the pattern, counted from 0 until one is missing."""
    names = []
    while (name := pattern.format(len(names))) in shapes:
        names.append(name)
    return names


def select_autoencoder(path: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder's weights under the first prefix that has some, without the prefix and without its loss.

    Raises:
        ValueError: naming the file, if no prefix has any.
    """
    for prefix in PREFIXES:
        if all(prefix + anchor in weights for anchor in ANCHORS):
            own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            return {key: value for key, value in own.items() if not NOT_WEIGHTS.match(key)}
    for prefix, what in TRAINED.items():
        if any(key.startswith(prefix) for key in weights):
            raise ValueError(f"file {path} is the checkpoint of {what}")
    raise ValueError(_mismatch(path, [anchor for anchor in ANCHORS if anchor not in weights], list(weights)))


def _respell(path: Path, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by LDM name, and for each LDM name that of the file.

    Raises:
        ValueError: naming the file, and a weight that it has under two names with other values.
    """
    levels = [int(level) for key in weights for level in re.findall(r"^\w+\.(?:down|up)_blocks\.(\d+)\.", key)]
    spellings: dict[str, str] = {}
    for key in weights:
        other = spellings.setdefault(ldm_name(key, 1 + max(levels, default=0)), key)
        if other != key and not torch.equal(weights[other], weights[key]):
            raise ValueError(f"file {path} has one weight under two names, {other} and {key}: take one of them out")
    return {spelled: weights[key] for spelled, key in spellings.items()}, spellings


def require_floats(what: str, value: Tensor) -> None:
    """Refuse whole numbers that stand for others: what they are scaled by is not known here.

    Raises:
        ValueError: naming the weight as `what`.
    """
    if value.ndim and not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        raise ValueError(f"{what} is quantized ({kind}): give weights of float32, bfloat16 or float16")


def _read_metadata(path: Path) -> tuple[dict, Normalization | None]:
    """Config and normalization in a file that `save_ldm` wrote; nothing for other files."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError:  # a torch checkpoint
        return {}, None
    if KEY in metadata:
        require_safetensors(path)
    try:
        config, kept = dict(json.loads(metadata[CONFIG])), json.loads(metadata.get(NORMALIZATION, "null"))
        return config, None if kept is None else Normalization.from_dict(kept)
    except KeyError:
        return {}, None
    except (TypeError, ValueError) as error:
        raise ValueError(f"file {path} has damaged metadata ({error}): export it again") from None


def _empty_model(path: Path, weights: Mapping[str, Tensor], config: dict[str, Any]) -> ModelMixin:
    """A model on the meta device, of the weights' architecture and the config's constants."""
    try:
        architecture = infer_architecture(weights)
    except IndexError as error:
        raise ValueError(f"file {path} does not tell its architecture ({error}): is it an autoencoder?") from None
    for key, value in architecture.items():
        given = config.get(key, value)
        if (list(given) if isinstance(value, list) and isinstance(given, Sequence) else given) != value:
            raise ValueError(f"file {path} has {key} {value}, its config or family says {given}: give another")
    try:
        constants = published_constants(architecture, config)
    except ValueError as error:
        raise ValueError(f"file {path} does not tell its family: {error}") from None
    try:
        with torch.device("meta"):
            return create_model(constants | config | architecture)
    except ValueError as error:
        raise ValueError(f"file {path} does not tell its architecture ({error}): give a config") from None


def _copy_weights(path: Path, model: ModelMixin, weights: Mapping[str, Tensor], spellings: Mapping[str, str]) -> None:
    """Into the model in float32; attention weights may be 1x1 convolutions [C, C, 1, 1] or linear [C, C]."""
    num_levels = len(model.config["block_out_channels"])
    expected = {ldm_name(name, num_levels): name for name in model.state_dict()}
    as_diffusers = any("_blocks." in key for key in spellings.values())
    missing = [expected[name] if as_diffusers else name for name in expected if name not in spellings]
    unexpected = [key for name, key in spellings.items() if name not in expected]
    if missing or unexpected:
        raise ValueError(_mismatch(path, missing, unexpected))
    state = {}
    for spelled, name in expected.items():
        value, shape = weights[spelled], model.get_parameter(name).shape
        require_floats(f"file {path}: {spellings[spelled]}", value)
        if value.shape not in (shape, (*shape, 1, 1)):
            key, got, wanted = spellings[spelled], list(value.shape), list(shape)
            raise ValueError(f"file {path}: {key} has shape {got} instead of {wanted}: is its architecture another?")
        state[name] = value.to(torch.float32, copy=True).reshape(shape)
    model.load_state_dict(state, assign=True)


def _mismatch(path: Path, missing: list[str], unexpected: list[str]) -> str:
    prefixes = ", ".join(prefix + "*" for prefix in PREFIXES)
    return (
        f"file {path} holds no autoencoder that is known here: missing keys {first_five(missing)}, unexpected keys "
        f"{first_five(unexpected)}; tried the layouts of diffusers and of LDM/taming under {prefixes}"
    )


def first_five(keys: list[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return (", ".join(keys[:5]) or "none") + more

"""Checkpoints of the public DiT, SiT, REPA and LightningDiT: what their tensors tell of the model."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dit.backbones import DiT, SiT
from dit.backbones.registry import FAMILIES, LARGE_SIZES, SIZES
from dit.objectives import Diffusion, Flow, Objective
from dit.public.lightningdit import (
    from_lightningdit_weights,
    is_lightningdit,
    lightningdit_options,
    rotate_as_published,
)
from dit.public.repa import PROJECTORS, from_public_weights
from dit.public.weights import first_keys, public_weights, with_weights
from eqvae.autoencoders import Normalization
from eqvae.latents import LatentSpec, OpenLatents

PUBLISHED_HEADS = {size["hidden_size"]: size["num_heads"] for size in (SIZES | LARGE_SIZES).values()}
PUBLISHED_SCALE = 0.18215  # of the autoencoder of Stable Diffusion, on whose latents all of them were trained
PUBLISHED_FACTOR, PUBLISHED_CHANNELS = 8, 4
CLASS_DROPOUT = 0.1
PATHS: dict[Any, Any] = {None: "linear", "Linear": "linear", "GVP": "gvp", "VP": "vp", "cosine": "gvp"}
"""Of SiT and of REPA, whose cosines are SiT's GVP once its time is turned; by ours."""
PREDICTIONS: dict[Any, Any] = {None: "velocity", "v": "velocity"}


def read_public_backbone(
    checkpoint: Mapping[str, Any], path: str | Path, family: str | None = None, num_heads: int | None = None
) -> DiT:
    """The backbone of a public checkpoint, in evaluation mode.

    Sizes come from the shapes. The label table is taken to end with a null row, as published ones do. A file with
    projectors is one of REPA: a SiT whose time and velocity are turned into ours here, projectors left out. A file of
    LightningDiT is a SiT, too. Of both the family may be left out.

    Args:
        checkpoint: state dict, directly or under "ema" or "model".
        path: for messages.
        family: "DiT" or "SiT", whose files look the same; None for REPA and LightningDiT.
        num_heads: of each attention; the published number of that width if None.

    Raises:
        ValueError: if the layout is another, with its first unexpected keys, or family or heads are missing.
    """
    weights = public_weights(checkpoint)
    if family != "DiT" and is_lightningdit(weights):
        return _read_lightningdit(weights, path, num_heads)
    if family in (None, "SiT") and any(name.startswith(PROJECTORS) for name in weights):
        try:
            weights, family = from_public_weights(weights)[0], "SiT"
        except ValueError as error:
            raise ValueError(f"checkpoint {path}: {error}") from None
    sizes = _infer_sizes(weights, path)
    if family not in FAMILIES:
        raise ValueError(f"checkpoint {path} does not tell DiT from SiT: give the family, {' or '.join(FAMILIES)}")
    return with_weights(FAMILIES[family], _with_heads(sizes, num_heads, path), weights, path)


def _read_lightningdit(weights: Mapping[str, Any], path: str | Path, num_heads: int | None) -> DiT:
    ours, rotation = from_lightningdit_weights(weights)
    sizes = _with_heads(_infer_sizes(ours, path) | lightningdit_options(ours, rotation), num_heads, path)
    backbone = with_weights(FAMILIES["SiT"], sizes, ours, path)
    rotate_as_published(backbone, rotation, path)
    return backbone


def public_objective(backbone: DiT, arguments: Any = None, path: str | Path = "") -> Objective:
    """What a public model was trained with.

    Args:
        arguments: of SiT's or REPA's training script, a namespace that their checkpoints hold under "args"; without one
            the path is linear and velocities are predicted.
        path: for messages.

    Raises:
        ValueError: naming the file, for a path or prediction that is unknown.
    """
    if not isinstance(backbone, SiT):
        return Diffusion(learn_sigma=backbone.config["learn_sigma"])
    if backbone.config["swiglu"]:
        return Flow(timesteps="logit_normal", cosine_weight=1.0)
    route: Any = getattr(arguments, "path_type", None)
    predicted: Any = getattr(arguments, "prediction", None)
    weighting = getattr(arguments, "loss_weight", None)
    try:
        return Flow(PATHS.get(route, route), PREDICTIONS.get(predicted, predicted), weighting)
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}") from None


def public_latents(backbone: DiT) -> LatentSpec:
    """The latents that public models make, whose autoencoder no file names.

    Of 4 channels they are those of Stable Diffusion, on which DiT, SiT and REPA were trained. Others are left open to
    the autoencoder that is given, and so are LightningDiT's, which was trained on several, with the mean and deviation
    of each channel.
    """
    side = backbone.config["input_size"]
    shape = (backbone.config["in_channels"], side, side)
    if backbone.config["swiglu"] or shape[0] != PUBLISHED_CHANNELS:
        return OpenLatents(shape)
    return LatentSpec(shape, PUBLISHED_FACTOR, None, Normalization((0.0,), (PUBLISHED_SCALE,)))


def _infer_sizes(weights: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Arguments of the backbone, but for its heads, by the shapes of its tensors.

    Raises:
        ValueError: naming the file and its first keys, if it is no transformer of this layout.
    """
    shapes = {name: tuple(value.shape) for name, value in weights.items() if isinstance(value, Tensor)}
    try:
        width, channels, patch_size, _ = shapes["x_embedder.proj.weight"]
        tokens = shapes["pos_embed"][1]
        out_channels = shapes["final_layer.linear.weight"][0] // patch_size**2
        hidden = shapes["blocks.0.mlp.fc2.weight"][1]
        rows = shapes["y_embedder.embedding_table.weight"][0]
    except (KeyError, ValueError, IndexError):
        raise ValueError(
            f"checkpoint {path} is no generator of stage 2, nor has it DiT's layout: "
            f"unexpected keys {first_keys(weights)}"
        ) from None
    return {
        "input_size": math.isqrt(tokens) * patch_size,
        "patch_size": patch_size,
        "in_channels": channels,
        "hidden_size": width,
        "depth": 1 + max(int(found[1]) for name in shapes if (found := re.match(r"blocks\.(\d+)\.", name))),
        "mlp_ratio": hidden / width,
        "class_dropout_prob": CLASS_DROPOUT,
        "num_classes": rows - 1,
        "learn_sigma": out_channels == 2 * channels,
    }


def _with_heads(sizes: dict[str, Any], num_heads: int | None, path: str | Path) -> dict[str, Any]:
    width = sizes["hidden_size"]
    if num_heads is None and width not in PUBLISHED_HEADS:
        raise ValueError(f"checkpoint {path} has width {width}, which is none of the published: give num_heads")
    return sizes | {"num_heads": num_heads or PUBLISHED_HEADS[width]}

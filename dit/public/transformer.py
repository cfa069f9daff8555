"""Checkpoints of the public DiT, SiT and REPA: what their tensors tell of the model."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dit.backbones import DiT
from dit.backbones.registry import FAMILIES, SIZES
from dit.public.repa import PROJECTORS, from_public_weights
from dit.public.weights import first_keys, public_weights, with_weights
from eqvae.autoencoders import Normalization
from eqvae.latents import LatentSpec

PUBLISHED_HEADS = {size["hidden_size"]: size["num_heads"] for size in SIZES.values()}
PUBLISHED_SCALE = 0.18215  # of the autoencoder of Stable Diffusion, on whose latents all of them were trained
PUBLISHED_FACTOR = 8
CLASS_DROPOUT = 0.1


def read_public_backbone(
    checkpoint: Mapping[str, Any], path: str | Path, family: str | None = None, num_heads: int | None = None
) -> DiT:
    """The backbone of a public checkpoint, in evaluation mode.

    Sizes come from the shapes. The label table is taken to end with a null row, as published ones do. Without a family,
    a file with projectors is one of REPA: a SiT whose time and velocity are turned into ours here, projectors left out.

    Args:
        checkpoint: state dict, directly or under "ema" or "model".
        path: for messages.
        family: "DiT" or "SiT", whose files look the same; None for REPA.
        num_heads: of each attention; the published number of that width if None.

    Raises:
        ValueError: if the layout is another, with its first unexpected keys, or family or heads are missing.
    """
    weights = public_weights(checkpoint)
    if family is None and any(str(name).startswith(PROJECTORS) for name in weights):
        try:
            weights, family = from_public_weights(weights)[0], "SiT"
        except ValueError as error:
            raise ValueError(f"checkpoint {path}: {error}") from None
    shapes = {name: tuple(value.shape) for name, value in weights.items() if isinstance(value, Tensor)}
    sizes = _infer_sizes(shapes)
    if sizes is None:
        raise ValueError(
            f"checkpoint {path} is no generator of stage 2, nor has it DiT's layout: "
            f"unexpected keys {first_keys(weights)}"
        )
    if family not in FAMILIES:
        raise ValueError(f"checkpoint {path} does not tell DiT from SiT: give the family, {' or '.join(FAMILIES)}")
    width = sizes["hidden_size"]
    if num_heads is None and width not in PUBLISHED_HEADS:
        raise ValueError(f"checkpoint {path} has width {width}, which is none of the published: give num_heads")
    return with_weights(FAMILIES[family], sizes | {"num_heads": num_heads or PUBLISHED_HEADS[width]}, weights, path)


def public_latents(backbone: DiT) -> LatentSpec:
    """The latents that public models make: of the autoencoder of Stable Diffusion, which their files do not name."""
    side = backbone.config["input_size"]
    normalization = Normalization((0.0,), (PUBLISHED_SCALE,))
    return LatentSpec((backbone.config["in_channels"], side, side), PUBLISHED_FACTOR, None, normalization)


def _infer_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Arguments of the backbone by the shapes of its tensors; None if it is no transformer of this layout."""
    try:
        width, channels, patch_size, _ = shapes["x_embedder.proj.weight"]
        tokens = shapes["pos_embed"][1]
        out_channels = shapes["final_layer.linear.weight"][0] // patch_size**2
        mlp_ratio = shapes["blocks.0.mlp.fc1.weight"][0] / width
        rows = shapes["y_embedder.embedding_table.weight"][0]
    except (KeyError, ValueError, IndexError):
        return None
    return {
        "input_size": math.isqrt(tokens) * patch_size,
        "patch_size": patch_size,
        "in_channels": channels,
        "hidden_size": width,
        "depth": 1 + max(int(found[1]) for name in shapes if (found := re.match(r"blocks\.(\d+)\.", name))),
        "mlp_ratio": mlp_ratio,
        "class_dropout_prob": CLASS_DROPOUT,
        "num_classes": rows - 1,
        "learn_sigma": out_channels == 2 * channels,
    }

"""MaskGIT's public checkpoints, both versions, as our backbones: the one place that knows their keys."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit.backbones import TOKEN_BACKBONES, HaltonMaskGIT, MaskGIT
from dit.backbones.maskgit import TokenTransformer
from dit.public.weights import public_weights, with_weights

# Beginnings of public names and of ours, for weights and modules alike; {} stands for a number.
RENAMED: dict[type[TokenTransformer], tuple[tuple[str, str], ...]] = {
    MaskGIT: (
        ("tok_emb.", "embedding."),
        ("pos_emb", "positions"),
        ("bias", "bias"),
        ("first_layer.", "input_layer."),
        ("last_layer.", "output_layer."),
        ("transformer.layers.{}.0.norm", "blocks.{}.norm1"),
        ("transformer.layers.{}.0.fn.mha.in_proj_", "blocks.{}.attn.qkv."),
        ("transformer.layers.{}.0.fn.mha.out_proj.", "blocks.{}.attn.proj."),
        ("transformer.layers.{}.1.norm", "blocks.{}.norm2"),
        ("transformer.layers.{}.1.fn.net.0.", "blocks.{}.mlp.fc1."),
        ("transformer.layers.{}.1.fn.net.3.", "blocks.{}.mlp.fc2."),
    ),
    HaltonMaskGIT: (
        ("tok_emb.", "embedding."),
        ("head.weight", "embedding.weight"),
        ("pos_emb.weight", "positions"),
        ("reg_tokens.weight", "registers"),
        ("cls_emb.", "y_embedder.embedding_table."),
        ("head.bias", "bias"),
        ("last_norm.norm_final", "norm_final"),
        ("last_norm.mlp.1.", "adaLN_modulation.1."),
        ("transformer.layers.{}.mlp.1.", "blocks.{}.adaLN_modulation.1."),
        ("transformer.layers.{}.ln{}", "blocks.{}.norm{}"),
        ("transformer.layers.{}.attn.qk_norm.query_norm", "blocks.{}.attn.query_norm"),
        ("transformer.layers.{}.attn.qk_norm.key_norm", "blocks.{}.attn.key_norm"),
        ("transformer.layers.{}.attn.wq.", "blocks.{}.attn.query."),
        ("transformer.layers.{}.attn.wk.", "blocks.{}.attn.key."),
        ("transformer.layers.{}.attn.wv.", "blocks.{}.attn.value."),
        ("transformer.layers.{}.attn.wo.", "blocks.{}.attn.proj."),
        ("transformer.layers.{}.ff.w1.", "blocks.{}.mlp.fc1_g."),
        ("transformer.layers.{}.ff.w2.", "blocks.{}.mlp.fc2."),
        ("transformer.layers.{}.ff.w3.", "blocks.{}.mlp.fc1_x."),
    ),
}
EMBEDDING = "tok_emb.weight"
PUBLISHED_HEADS = {(family, size["hidden_size"]): size["num_heads"] for family, size in TOKEN_BACKBONES.values()}
PUBLISHED_CLASSES = 1000


def public_maskgit_family(weights: Mapping[str, Any]) -> type[TokenTransformer] | None:
    """The version whose keys these are, or None."""
    if EMBEDDING not in weights:
        return None
    return HaltonMaskGIT if "cls_emb.weight" in weights else MaskGIT if "pos_emb" in weights else None


def our_name(public: str, family: type[TokenTransformer]) -> str | None:
    """Our name of a weight or module of the public network; None for one that it does not have."""
    for beginning, ours in RENAMED[family]:
        pattern = re.escape(beginning).replace(r"\{\}", r"(\d+)")
        if found := re.match(pattern, public):
            return ours.format(*found.groups()) + public[found.end() :]
    return None


def read_public_maskgit(
    checkpoint: Mapping[str, Any],
    path: str | Path,
    num_classes: int = PUBLISHED_CLASSES,
    num_heads: int | None = None,
) -> TokenTransformer:
    """The backbone of a public MaskGIT checkpoint of either version, in evaluation mode.

    Sizes come from the shapes. The label table is taken to end with a null row, as published ones do.

    Args:
        checkpoint: state dict, directly or under "ema" or "model".
        path: for messages.
        num_classes: of v1, whose only table holds codes, mask, classes and the null label; v2's file tells it.
        num_heads: of each attention; the published number of that version and width if None.

    Raises:
        ValueError: if the layout is another, with its first unexpected keys, or heads are missing.
    """
    weights = public_weights(checkpoint)
    family = public_maskgit_family(weights)
    if family is None:
        raise ValueError(f"checkpoint {path} is no MaskGIT: {EMBEDDING}, and pos_emb or cls_emb.weight, are missing")
    renamed: dict[str, Tensor] = {}
    for public, value in weights.items():
        ours = our_name(public, family)
        if ours in renamed and not torch.equal(renamed[ours], value):
            raise ValueError(f"checkpoint {path}: {public} is not {EMBEDDING}, to which the published head is tied")
        renamed[ours or public] = value
    try:
        sizes = _infer_sizes(renamed, family, num_classes)
    except (KeyError, ValueError, IndexError):
        raise ValueError(f"checkpoint {path} has not the shapes of {family.__name__}: give its weights") from None
    width = sizes["hidden_size"]
    if num_heads is None and (family, width) not in PUBLISHED_HEADS:
        raise ValueError(f"checkpoint {path} has width {width}, which is none of the published: give num_heads")
    return with_weights(family, sizes | {"num_heads": num_heads or PUBLISHED_HEADS[family, width]}, renamed, path)


def _infer_sizes(weights: Mapping[str, Tensor], family: type[TokenTransformer], num_classes: int) -> dict[str, Any]:
    """Arguments of the backbone by the shapes of its tensors."""
    rows, width = weights["embedding.weight"].shape
    places = weights["positions"].shape[-2]
    depth = 1 + max(int(found[1]) for name in weights if (found := re.match(r"blocks\.(\d+)\.", name)))
    sizes = {"hidden_size": width, "depth": depth}
    if family is MaskGIT:  # the class has a place, too; rows are codes, mask, classes, null label
        mlp_ratio = weights["blocks.0.mlp.fc1.weight"].shape[0] / width
        sizes |= {"input_size": math.isqrt(places - 1), "num_codes": rows - num_classes - 2, "num_classes": num_classes}
        return sizes | {"mlp_ratio": mlp_ratio}
    num_classes = len(weights["y_embedder.embedding_table.weight"]) - 1
    mlp_ratio = 1.5 * weights["blocks.0.mlp.fc1_g.weight"].shape[0] / width
    sizes |= {"input_size": math.isqrt(places), "num_codes": rows - 1, "num_classes": num_classes}
    return sizes | {"mlp_ratio": mlp_ratio, "num_registers": len(weights["registers"])}

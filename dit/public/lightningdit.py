"""LightningDiT's public checkpoints as weights of our SiT with its options.

Blocks differ from DiT's in learned weights of RMS norms and in a gated MLP whose first layer is one matrix, `w12`:
gates above, values below (DINOv2's SwiGLU). The rotation of queries and keys is no weight, but lies among them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit.backbones import DiT
from dit.backbones.transformer import grid_rotation, mlp_width

SPLIT, RENAMED = ".mlp.w12.", (".mlp.w3.", ".mlp.fc2.")
GATES, VALUES = ".mlp.fc1_g.", ".mlp.fc1_x."
ROTATION = "feat_rope."  # `freqs_cos` and `freqs_sin` [T, D / heads], of rows and then of columns
ROTATION_TOLERANCE = 1e-5  # of sines and cosines, absolute: rounded in another order
PUBLISHED_RATIO = 4.0


def is_lightningdit(weights: Mapping[str, object]) -> bool:
    """Whether these are its keys, which no other public checkpoint has."""
    return any(SPLIT in str(name) for name in weights)


def from_lightningdit_weights(weights: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of `dit.backbones.SiT`, and sines and cosines of the rotation by name where there are any."""
    weights = dict(weights)
    rotation = {name.removeprefix(ROTATION): weights.pop(name) for name in list(weights) if name.startswith(ROTATION)}
    ours: dict[str, Tensor] = {}
    for name, value in weights.items():
        if SPLIT in name and isinstance(value, Tensor):
            gates, values = value.chunk(2)
            ours |= {name.replace(SPLIT, GATES): gates, name.replace(SPLIT, VALUES): values}
        else:
            ours[name.replace(*RENAMED)] = value
    return ours, rotation


def lightningdit_options(ours: Mapping[str, Tensor], rotation: Mapping[str, Tensor]) -> dict[str, bool | float]:
    """Arguments of the backbone in which it differs from DiT, the ratio of its MLPs included.

    Raises:
        KeyError, ValueError: if its first block has no MLP.
    """
    hidden, width = ours["blocks.0" + GATES + "weight"].shape
    published = mlp_width(width, PUBLISHED_RATIO, swiglu=True) == hidden
    return {
        "rms_norm": "blocks.0.norm1.weight" in ours,
        "swiglu": True,
        "rotary": bool(rotation),
        "qk_norm": "blocks.0.attn.q_norm.weight" in ours,
        "mlp_ratio": PUBLISHED_RATIO if published else 1.5 * hidden / width,
    }


def rotate_as_published(backbone: DiT, rotation: Mapping[str, Tensor], path: str | Path) -> None:
    """Give the backbone, whose weights alone were read, its rotation, if it has one.

    Raises:
        ValueError: naming the file, if its queries and keys are turned by other angles.
    """
    if not backbone.config["rotary"]:
        return
    backbone.rotary = grid_rotation(backbone.config["hidden_size"] // backbone.config["num_heads"], backbone.side)
    sines, cosines = backbone.rotary.get_embed().chunk(2, dim=-1)
    for name, ours in (("freqs_sin", sines), ("freqs_cos", cosines)):
        theirs = rotation.get(name)
        if (
            theirs is None
            or theirs.shape != ours.shape
            or not torch.allclose(theirs.float(), ours, rtol=0, atol=ROTATION_TOLERANCE)
        ):
            raise ValueError(f"checkpoint {path} rotates by other angles than LightningDiT: {ROTATION}{name} differs")

"""REPA's public checkpoints as weights of our SiT.

Their time runs from 1 (noise) to 0 (data) and their velocity is noise - data. Both turn into ours exactly: the
sinusoids of 1 - t are a rotation of those of t, which the first layer of the time embedder absorbs, and the velocity's
sign goes into the last layer.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dit.backbones.embeddings import FREQUENCIES, LONGEST_PERIOD

PROJECTORS = "projectors."
PROJECTOR_PREFIX = PROJECTORS + "0."  # of the first encoder; further ones count on
TIME_LAYER = "t_embedder.mlp.0.weight"
LAST_LAYER = ("final_layer.linear.weight", "final_layer.linear.bias")


def from_public_weights(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Weights of `dit.backbones.SiT` and of each encoder's projector, of a REPA state dict.

    Raises:
        ValueError: if it has no first projector or lacks a layer.
    """
    projectors: list[dict[str, Tensor]] = []
    while projector := _below(weights, f"{PROJECTORS}{len(projectors)}."):
        projectors.append(projector)
    missing = [key for key in (TIME_LAYER, *LAST_LAYER) if key not in weights]
    if missing or not projectors:
        raise ValueError(f"these are no weights of REPA: {missing[0] if missing else 'projectors.0'} is missing")
    backbone = {key: value for key, value in weights.items() if not key.startswith(PROJECTORS)}
    backbone[TIME_LAYER] = _turned(weights[TIME_LAYER])
    return backbone | {key: -weights[key] for key in LAST_LAYER}, projectors


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _turned(weight: Tensor) -> Tensor:
    """[D, 2 F] that gives for the sinusoids (cosines, sines) of t what `weight` gives for those of 1 - t."""
    exponents = torch.arange(FREQUENCIES, dtype=torch.float64, device=weight.device) / FREQUENCIES
    angles = torch.exp(-math.log(LONGEST_PERIOD) * exponents)
    cosines, sines = weight.double().chunk(2, dim=1)
    turned = torch.cat(
        (cosines * angles.cos() + sines * angles.sin(), cosines * angles.sin() - sines * angles.cos()), 1
    )
    return turned.to(weight.dtype)

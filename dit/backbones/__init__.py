"""Networks that learn: `forward(x, t, y) -> prediction`, single-device code, published sizes in one registry."""

from dit.backbones.flops import num_multiply_adds, num_parameters
from dit.backbones.halton_maskgit import HaltonMaskGIT
from dit.backbones.interface import Backbone
from dit.backbones.maskgit import MaskGIT
from dit.backbones.registry import FAMILIES, PUBLISHED, TOKEN_BACKBONES, create_backbone, create_token_backbone
from dit.backbones.transformer import DiT, SiT

BACKBONES = {**FAMILIES, "MaskGIT": MaskGIT, "HaltonMaskGIT": HaltonMaskGIT}  # by the name in a checkpoint

__all__ = [
    "BACKBONES",
    "PUBLISHED",
    "TOKEN_BACKBONES",
    "Backbone",
    "DiT",
    "HaltonMaskGIT",
    "MaskGIT",
    "SiT",
    "create_backbone",
    "create_token_backbone",
    "num_multiply_adds",
    "num_parameters",
]

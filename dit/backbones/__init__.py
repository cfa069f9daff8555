"""Networks that learn: `forward(x, t, y) -> prediction`, single-device code, published sizes in one registry."""

from dit.backbones.flops import num_multiply_adds, num_parameters
from dit.backbones.registry import FAMILIES as BACKBONES
from dit.backbones.registry import PUBLISHED, create_backbone
from dit.backbones.transformer import DiT, SiT

__all__ = ["BACKBONES", "PUBLISHED", "DiT", "SiT", "create_backbone", "num_multiply_adds", "num_parameters"]

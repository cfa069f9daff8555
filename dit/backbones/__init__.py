"""Networks that learn: `forward(x, t, y) -> prediction`, single-device code, published sizes in one registry."""

from dit.backbones.registry import FAMILIES as BACKBONES
from dit.backbones.registry import PUBLISHED, create_backbone
from dit.backbones.transformer import DiT, SiT, count_multiply_adds, count_parameters

__all__ = ["BACKBONES", "PUBLISHED", "DiT", "SiT", "count_multiply_adds", "count_parameters", "create_backbone"]

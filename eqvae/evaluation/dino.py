"""Features of DINOv2 for distances (Stein et al., "Exposing flaws of generative model evaluation metrics", 2023)."""

import math

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from eqvae.devices import column
from eqvae.vision_transformers import (
    IMAGENET,
    download_vision_transformer,
    open_vision_transformer,
    read_encoder_weights,
)

ARCHITECTURES = {"dinov2_large": "vit_large_patch14_dinov2.lvd142m"}
"""timm's name of each extractor's network, with the tag of the weights."""

SIDE, GRID = 224, 16  # pixels, and patches of 14 of them
OFFSET = 0.1  # patches by which DINOv2 enlarges the grid that it resamples its position table for
POSITIONS = "pos_embed"


class DinoFeatures(FeatureExtractorBase):
    """The class token after the last norm, [B, D], of uint8 images [B, 3, H, W]; no spatial features, no logits.

    Images are resized to 224 x 224 as uint8 (bicubic, antialiased, as Pillow does), whatever their size,
    and normalized by ImageNet's mean and deviation. The position table of the files is of 37 x 37 patches, and is
    resampled to 16 x 16 bicubically, with an offset of 0.1. No number was compared with a published one.

    Args:
        name: of `ARCHITECTURES`.
        weights: local file in the layout of the public repository or of timm; None downloads timm's.

    Raises:
        ValueError: for weights that cannot be had or are of another network.
    """

    def __init__(self, name: str = "dinov2_large", weights: str | None = None):
        super().__init__(name, ["class_token"])
        self.network = _open(name, weights).eval().requires_grad_(False)

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        assert input.dtype == torch.uint8, f"features are taken of uint8 images, got {input.dtype}"
        images = resize(input, [SIDE, SIDE], InterpolationMode.BICUBIC, antialias=True).float() / 255
        mean, deviation = (column(values, input.device) for values in IMAGENET)
        return (self.network.forward_features((images - mean) / deviation)[:, 0],)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("class_token",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "class_token"


def _open(name: str, weights: str | None) -> VisionTransformer:
    architecture = ARCHITECTURES[name]
    if weights is None:
        remedy = f"give a local file of {name} as extractor_weights"
        found: dict[str, Tensor] = dict(download_vision_transformer(name, architecture, remedy).state_dict())
    else:
        found = read_encoder_weights(weights)
    if POSITIONS in found:
        found[POSITIONS] = _resampled(found[POSITIONS], str(weights))
    return open_vision_transformer(name, architecture, SIDE, found, str(weights or architecture))


def _resampled(table: Tensor, where: str) -> Tensor:
    """Position table [1, 1 + n n, D] for 16 x 16 patches: bicubic, by the ratio of 16.1 to n, not antialiased."""
    side = math.isqrt(table.shape[1] - 1) if table.ndim == 3 else 0
    if side == 0 or table.shape[:2] != (1, 1 + side * side):
        raise ValueError(f"{where} is no encoder of DINOv2: {POSITIONS} has shape {tuple(table.shape)}")
    if side == GRID:
        return table
    grid = table[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    ratio = (GRID + OFFSET) / side
    resampled = F.interpolate(grid, scale_factor=(ratio, ratio), mode="bicubic")
    return torch.cat((table[:, :1], resampled.flatten(2).transpose(1, 2).to(table)), dim=1)

"""Frozen image encoders whose tokens a generator is aligned with."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from timm.models.efficientnet import EfficientNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from eqvae.devices import column
from eqvae.efficientnet import FrozenNetwork, efficientnet_lite0
from eqvae.foundation import FeatureEncoder
from eqvae.vision_transformers import (
    IMAGENET,
    download_vision_transformer,
    open_vision_transformer,
    read_encoder_weights,
)

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Preset:
    """One encoder with its own preprocessing.

    Args:
        architecture: timm's name; with a tag after the dot its weights can be downloaded.
        width: channels of a token.
        patch_size: side of a token's patch; images are resized to patch_size * grid, which is the published
            224 for patches of 14 and images of 256, and leaves those of 256 as they are for patches of 16.
        statistics: mean and standard deviation of each channel, for images in [0, 1].
        resize: "before" or "after" the normalization, as published.
    """

    architecture: str
    width: int
    patch_size: int
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    resize: Literal["before", "after"] = "after"


ENCODERS = {
    "dinov2_base": Preset("vit_base_patch14_dinov2.lvd142m", 768, 14),
    "dinov2_large": Preset("vit_large_patch14_dinov2.lvd142m", 1024, 14),
    "dinov2_giant": Preset("vit_giant_patch14_dinov2.lvd142m", 1536, 14),
    "mae_large": Preset("vit_large_patch16_224.mae", 1024, 16),
    "mocov3_base": Preset("vit_base_patch16_224", 768, 16),
    "mocov3_large": Preset("vit_large_patch16_224", 1024, 16),
    "clip_large": Preset("vit_large_patch14_clip_quickgelu_224.openai", 1024, 14, CLIP, "before"),
    "ijepa_huge": Preset("vit_huge_patch14_gap_224.in1k_ijepa", 1280, 14),
    "efficientnet_lite0": Preset("tf_efficientnet_lite0", 1280, 32, HALF),
}


class Encoder(FeatureEncoder):
    """Tokens of images. The network is frozen, no submodule of anything, and opened on first use.

    Args:
        name: one of `ENCODERS`.
        weights: local file (safetensors, or a state dict that torch saved); null downloads timm's. MoCo v3 has no
            download, EfficientNet-Lite0 is packaged and takes no file.

    Raises:
        ValueError: for another name, or a file where none is taken or one is needed.
    """

    def __init__(self, name: str = "dinov2_base", weights: str | None = None):
        if name not in ENCODERS:
            raise ValueError(f"encoder {name!r} is unknown: use one of {', '.join(ENCODERS)}")
        self.name, self.weights, self.preset = name, weights, ENCODERS[name]
        if name == "efficientnet_lite0" and weights is not None:
            raise ValueError("encoder efficientnet_lite0 takes no weights file: its own are packaged")
        self._networks: dict[int, FrozenNetwork] = {}

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.preset.width

    def preprocess(self, images: Tensor, grid: int) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] as the network of a grid takes them, [B, 3, p * grid, p * grid] float32."""
        side = self.preset.patch_size * grid
        mean, std = (column(values, images.device) for values in self.preset.statistics)
        images = (images.float() + 1) / 2
        if self.preset.resize == "before":
            return (_resized(images, side) - mean) / std
        return _resized((images - mean) / std, side)

    @torch.no_grad()
    def __call__(self, images: Tensor, grid: int, precision: str = "float32") -> Tensor:
        """Tokens [B, grid * grid, width] float32 of images [B, 3, H, W] in [-1, 1], row by row.

        The network runs in float32 (or "bfloat16", by autocast), also below a trainer's autocast.
        """
        network = self._network(grid).on(images.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            features = network.forward_features(self.preprocess(images, grid)).float()
        if features.ndim == 4:  # a feature map
            return features.flatten(2).transpose(1, 2).contiguous()
        assert isinstance(network, VisionTransformer)
        return features[:, network.num_prefix_tokens :]

    def fingerprint(self, grid: int) -> str:
        """sha256 of the weights, position table of this grid included."""
        digest = hashlib.sha256()
        for name, value in self._network(grid).on(torch.device("cpu")).state_dict().items():
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def release(self) -> None:
        """Free the memory of the network; the next use opens it again."""
        self._networks.clear()

    def _network(self, grid: int) -> FrozenNetwork[EfficientNet | VisionTransformer]:
        if grid not in self._networks:
            with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
                self._networks[grid] = FrozenNetwork(self._open(grid))
        return self._networks[grid]

    def _open(self, grid: int) -> EfficientNet | VisionTransformer:
        if self.name == "efficientnet_lite0":
            return efficientnet_lite0()
        side, architecture = self.preset.patch_size * grid, self.preset.architecture
        if self.weights is None:
            remedy = f"give a local file as model.init_args.alignment.encoder.weights for {self.name}"
            return download_vision_transformer(self.name, architecture, remedy, img_size=side)
        found = read_encoder_weights(self.weights)
        return open_vision_transformer(self.name, architecture, side, found, self.weights)


def _resized(images: Tensor, side: int) -> Tensor:
    """Bicubic without antialiasing, as in REPA."""
    return images if images.shape[-1] == side else F.interpolate(images, (side, side), mode="bicubic")

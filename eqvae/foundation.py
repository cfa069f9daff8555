"""Features of places in images from networks that are frozen: what latents or generators are aligned with."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.efficientnet import FrozenNetwork, efficientnet_lite0


class FeatureEncoder(ABC):
    """What gives features. The network is frozen, and no submodule of anything."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of a feature."""

    @abstractmethod
    def __call__(self, images: Tensor, grid: int) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to [B, grid * grid, width] float32, row by row, without gradients."""


class EfficientNetMap(FeatureEncoder):
    """The map of EfficientNet-Lite0 at 1/16 of the side; its weights are packaged.

    Images are resized to 16 x grid pixels (bilinear).
    """

    stage, stride = 3, 16

    def __init__(self):
        self._network = FrozenNetwork(efficientnet_lite0())

    @property
    def width(self) -> int:
        return 112

    @torch.no_grad()
    def __call__(self, images: Tensor, grid: int) -> Tensor:
        network = self._network.on(images.device)
        with torch.autocast(images.device.type, enabled=False):
            resized = F.interpolate(images.float(), (self.stride * grid,) * 2, mode="bilinear", align_corners=False)
            features = network.forward_intermediates(resized, indices=[self.stage], intermediates_only=True)[0]
        return features.flatten(2).transpose(1, 2)

"""Distances between images in the feature space of a frozen network."""

import warnings
from functools import cache, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

from eqvae.efficientnet import FrozenNetwork, efficientnet_lite0
from eqvae.weights import load_weights

PERCEPTUAL_NAMES = ("efficientnet_lite0", "lpips_vgg", "lpips_alex", "lpips_squeeze", "none")
SMALLEST_SIDES = {"efficientnet_lite0": 1, "lpips_vgg": 16, "lpips_alex": 31, "lpips_squeeze": 17, "none": 1}
"""Pixels below which a distance's last level would be empty."""
BACKBONE_URLS = {
    "vgg": VGG16_Weights.IMAGENET1K_V1.url,
    "alex": AlexNet_Weights.IMAGENET1K_V1.url,
    "squeeze": SqueezeNet1_1_Weights.IMAGENET1K_V1.url,
}


class EfficientNetDistance(nn.Module):
    """LPIPS' recipe on EfficientNet-Lite0: unit-normalized channels, squared difference, mean over space.

    Without learned channel weights, so its values compare only with each other. Source: Zhang et al., "The
    unreasonable effectiveness of deep features as a perceptual metric", 2018, eq. 1 with w = 1.

    Args:
        stages: feature levels 0 ... 4, at 1/2, 1/4, 1/8, 1/16, 1/32 of the side; the default sees edges and textures.
        resize: side to which both images are resized first (bilinear); None compares them as they are.
    """

    name = "efficientnet_lite0"

    def __init__(self, stages: tuple[int, ...] = (0, 1, 2), resize: int | None = None):
        super().__init__()
        self.stages, self.resize = list(stages), resize
        self._frozen = FrozenNetwork(efficientnet_lite0())

    def forward(self, images: Tensor, target: Tensor, both: bool = False) -> Tensor:
        """Both [B, 3, H, W] in [-1, 1]; distances [B] >= 0. Only `images` receives a gradient, unless `both` are to."""
        with torch.set_grad_enabled(both and torch.is_grad_enabled()):
            expected = self._levels(target)
        return reduce(torch.add, (_unit_difference(a, b) for a, b in zip(self._levels(images), expected)))

    def _levels(self, images: Tensor) -> list[Tensor]:
        if self.resize is not None:
            images = F.interpolate(images, (self.resize, self.resize), mode="bilinear", antialias=True)
        network = self._frozen.on(images.device)
        levels = network.forward_intermediates(images, indices=self.stages, intermediates_only=True)
        assert isinstance(levels, list)  # a pair only where more than levels is asked for
        return levels


def _unit_difference(a: Tensor, b: Tensor) -> Tensor:
    difference = F.normalize(a.float(), dim=1, eps=1e-6) - F.normalize(b.float(), dim=1, eps=1e-6)
    return difference.square().sum(1).mean((1, 2))


class LPIPSDistance(nn.Module):
    """The learned distance of the `lpips` package (version 0.1), as published tables state it.

    Args:
        net: "vgg" (of all published tables), "alex" or "squeeze".
        weights: state dict of the torchvision backbone, where it cannot be downloaded.

    Raises:
        ValueError: if the backbone's weights cannot be had or do not fit.
    """

    def __init__(self, net: str = "vgg", weights: str | None = None):
        super().__init__()
        self.name = f"lpips_{net}"
        backbone = load_weights(BACKBONE_URLS[net], weights, option="perceptual_weights_file")
        with torch.inference_mode(False):
            self._frozen = FrozenNetwork(_lpips_network(net, backbone, weights or BACKBONE_URLS[net]))

    def forward(self, images: Tensor, target: Tensor, both: bool = False) -> Tensor:
        """Both [B, 3, H, W] in [-1, 1]; distances [B] >= 0. Only `images` receives a gradient, unless `both` are to."""
        return self._frozen.on(images.device)(images, target if both else target.detach()).flatten()


def _lpips_network(net: str, backbone: dict[str, Tensor], source: str) -> nn.Module:
    import lpips  # on use: slow to import, and needed by few configurations

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision in its deprecated way
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    # torchvision numbers the layers `features.N`; lpips keeps N and sorts them into slices.
    for name, parameter in network.net.named_parameters():
        key = f"features.{name.split('.', 1)[1]}"
        if key not in backbone or backbone[key].shape != parameter.shape:
            raise ValueError(f"{source} is not torchvision's backbone for LPIPS {net}: {key} is missing or misshaped")
        parameter.data.copy_(backbone[key])
    return network


@cache
def create_perceptual(name: str, weights: str | None = None) -> EfficientNetDistance | LPIPSDistance | None:
    """The distance called `name`, one of `PERCEPTUAL_NAMES`; one instance per process, None for "none".

    Args:
        weights: local state dict of an LPIPS backbone.

    Raises:
        ValueError: for another name, or weights that cannot be had.
    """
    if name not in PERCEPTUAL_NAMES:
        raise ValueError(f"perceptual distance {name!r} is unknown: use one of {', '.join(PERCEPTUAL_NAMES)}")
    if name == "none":
        return None
    if name == "efficientnet_lite0":
        return EfficientNetDistance()
    return LPIPSDistance(name.removeprefix("lpips_"), weights)

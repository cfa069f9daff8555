"""Distances between pictures in the feature space of a frozen network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqvae.efficientnet import efficientnet_lite0

EFFICIENTNET_STAGES = (0, 1, 2)  # features at 1/2, 1/4 and 1/8 of the side: edges and textures


class FrozenNetwork:
    """Keeps a network out of the module tree (checkpoints, optimizers, averages) and moves it where pictures are."""

    def __init__(self, network: nn.Module):
        self.network = network.eval().requires_grad_(False)

    def on(self, device: torch.device) -> nn.Module:
        if next(self.network.parameters()).device != device:
            self.network.to(device)
        return self.network


class EfficientNetDistance:
    """LPIPS' recipe on EfficientNet-Lite0: unit-normalized channels, squared difference, mean over space.

    Without learned channel weights, so its values compare only with each other. Source: Zhang et al., "The
    unreasonable effectiveness of deep features as a perceptual metric", 2018, eq. 1 with w = 1.

    Args:
        stages: which of the network's five feature levels.
    """

    name = "efficientnet_lite0"

    def __init__(self, stages: tuple[int, ...] = EFFICIENTNET_STAGES):
        self.stages = list(stages)
        self._frozen = FrozenNetwork(efficientnet_lite0())

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        """Both [B, 3, H, W] in [-1, 1]; distances [B] >= 0."""
        network = self._frozen.on(images.device)
        both = torch.cat((images, target))
        levels = network.forward_intermediates(both, indices=self.stages, intermediates_only=True)
        total = torch.zeros(len(images), device=images.device)
        for level in levels:
            a, b = F.normalize(level.float(), dim=1, eps=1e-6).chunk(2)
            total = total + (a - b).square().sum(1).mean((1, 2))
        return total


class LPIPSDistance:
    """The learned distance of the `lpips` package.

    Args:
        net: "vgg" (of all published tables), "alex" or "squeeze".
        weights_file: state dict of the torchvision backbone, where it cannot be downloaded.
    """

    def __init__(self, net: str = "vgg", weights_file: str | None = None):
        import lpips

        self.name = f"lpips_{net}"
        try:
            network = lpips.LPIPS(net=net, pnet_rand=weights_file is not None, verbose=False)
        except OSError as error:
            raise ValueError(
                f"the {net} backbone of LPIPS cannot be downloaded ({error}): give a local file as "
                "perceptual_weights_file, or use perceptual: efficientnet_lite0"
            ) from None
        if weights_file is not None:
            _load_backbone(network.net, weights_file)
        self._frozen = FrozenNetwork(network)

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        """Both [B, 3, H, W] in [-1, 1]; distances [B] >= 0."""
        return self._frozen.on(images.device)(images, target).flatten()


def _load_backbone(slices: nn.Module, weights_file: str) -> None:
    """torchvision numbers the layers `features.N`; lpips keeps N and sorts them into slices."""
    try:
        weights = torch.load(weights_file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, torch.serialization.pickle.UnpicklingError) as error:
        raise ValueError(f"perceptual_weights_file {weights_file} cannot be read ({error})") from None
    for name, parameter in slices.named_parameters():
        _, layer = name.split(".", 1)
        source = weights.get(f"features.{layer}")
        if source is None or source.shape != parameter.shape:
            raise ValueError(f"perceptual_weights_file {weights_file} does not fit: features.{layer} is missing")
        parameter.data.copy_(source)


def create_perceptual(name: str, weights_file: str | None = None) -> EfficientNetDistance | LPIPSDistance | None:
    """The distance called `name`: "efficientnet_lite0", "lpips_vgg", "lpips_alex", "lpips_squeeze", or "none".

    Raises:
        ValueError: for another name, or weights that cannot be had.
    """
    if name == "none":
        return None
    if name == "efficientnet_lite0":
        return EfficientNetDistance()
    if name in ("lpips_vgg", "lpips_alex", "lpips_squeeze"):
        return LPIPSDistance(name.removeprefix("lpips_"), weights_file)
    raise ValueError(
        f"perceptual distance {name!r} is unknown: efficientnet_lite0, lpips_vgg, lpips_alex, lpips_squeeze"
    )

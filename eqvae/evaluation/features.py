"""Feature extractors behind torch-fidelity's interface, and features of many pictures."""

from collections.abc import Iterable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import register_feature_extractor

from eqvae.efficientnet import efficientnet_lite0

# How a Fréchet distance on each extractor's features is called; only Inception's is "FID".
METRIC_NAMES = {"efficientnet_lite0": "fd_efficientnet_lite0", "inception_v3": "fid"}
INPUT_SIDE = 64  # of EfficientNet-Lite0 for pictures up to that side; larger ones keep theirs up to 224
LARGEST_SIDE = 224


class EfficientNetFeatures(FeatureExtractorBase):
    """Pooled features of EfficientNet-Lite0, [B, 1280], from uint8 pictures [B, 3, H, W].

    Pictures up to 64 pixels are enlarged to 64 (bicubic), those above 224 shrunk to 224 with antialiasing.
    """

    FEATURES = "1280"

    def __init__(self, name: str = "efficientnet_lite0", features_list: list[str] | None = None, **kwargs):
        super().__init__(name, features_list or [self.FEATURES])
        self.network = efficientnet_lite0()

    def forward(self, pictures: Tensor) -> tuple[Tensor]:
        images = pictures.float() / 127.5 - 1
        side = min(max(images.shape[-1], INPUT_SIDE), LARGEST_SIDE)
        if images.shape[-1] != side:
            images = F.interpolate(images, (side, side), mode="bicubic", antialias=side < images.shape[-1])
        return (self.network.forward_head(self.network.forward_features(images), pre_logits=True),)

    @staticmethod
    def get_provided_features_list() -> tuple[str]:
        return (EfficientNetFeatures.FEATURES,)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return EfficientNetFeatures.FEATURES

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(4, 3, INPUT_SIDE, INPUT_SIDE, dtype=torch.uint8)


register_feature_extractor("efficientnet_lite0", EfficientNetFeatures)


@cache
def create_extractor(name: str = "efficientnet_lite0", weights_file: str | None = None) -> FeatureExtractorBase:
    """The extractor called `name`, in evaluation mode on the CPU; one per process.

    Args:
        name: "efficientnet_lite0" (packaged weights) or "inception_v3" (torch-fidelity's, the field's FID).
        weights_file: of Inception-v3, where it cannot be downloaded.

    Raises:
        ValueError: for an unknown name, or weights that cannot be had.
    """
    if name == "efficientnet_lite0":
        return EfficientNetFeatures().eval()
    if name != "inception_v3":
        raise ValueError(f"feature extractor {name!r} is unknown: use one of {', '.join(METRIC_NAMES)}")
    try:
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=weights_file
        ).eval()
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the weights of Inception-v3 cannot be had ({str(error).splitlines()[0]}): give a local file as "
            "extractor_weights, or use extractor: efficientnet_lite0"
        ) from None


@torch.no_grad()
def images_to_features(
    batches: Iterable[Tensor], extractor: FeatureExtractorBase, device: torch.device | str = "cpu"
) -> Tensor:
    """Features [N, D] float32 on the CPU of uint8 pictures given in batches [B, 3, H, W]."""
    extractor = extractor.to(device)
    return torch.cat([extractor(batch.to(device))[0].float().cpu() for batch in batches])

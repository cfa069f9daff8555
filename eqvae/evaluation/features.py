"""Feature extractors behind torch-fidelity's interface, and features of many pictures."""

import io
from collections.abc import Iterable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torch_fidelity.registry import register_feature_extractor

from eqvae.efficientnet import efficientnet_lite0
from eqvae.weights import load_weights

# How a Fréchet distance on each extractor's features is called; only Inception's is "FID".
METRIC_NAMES = {"efficientnet_lite0": "fd_efficientnet_lite0", "inception_v3": "fid"}
SMALL_INPUT_SIZE, LARGE_INPUT_SIZE = 64, 224  # for pictures up to 64 pixels, and for larger ones


class EfficientNetFeatures(FeatureExtractorBase):
    """Pooled features of EfficientNet-Lite0, [B, 1280], from uint8 pictures [B, 3, H, W].

    Every picture is resized to one side (bicubic, antialiased, as Pillow does), part of the metric's definition.

    Args:
        input_size: that side; None: 64 for pictures up to 64 pixels, 224 for larger ones.
    """

    FEATURES = "1280"

    def __init__(
        self,
        name: str = "efficientnet_lite0",
        features_list: list[str] | None = None,
        input_size: int | None = None,
        **kwargs,  # torch-fidelity hands all its options to every extractor
    ):
        super().__init__(name, features_list or [self.FEATURES])
        self.network = efficientnet_lite0()
        self.input_size = input_size

    def forward(self, pictures: Tensor) -> tuple[Tensor]:
        assert pictures.dtype == torch.uint8, f"features are taken of uint8 pictures, got {pictures.dtype}"
        images = pictures.float() / 127.5 - 1
        small = max(images.shape[-2:]) <= SMALL_INPUT_SIZE
        side = self.input_size or (SMALL_INPUT_SIZE if small else LARGE_INPUT_SIZE)
        images = F.interpolate(images, (side, side), mode="bicubic", antialias=True)
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
        return torch.zeros(4, 3, SMALL_INPUT_SIZE, SMALL_INPUT_SIZE, dtype=torch.uint8)


register_feature_extractor("efficientnet_lite0", EfficientNetFeatures)


def create_extractor(
    name: str = "efficientnet_lite0", weights: str | None = None, device: torch.device | str = "cpu"
) -> FeatureExtractorBase:
    """The extractor called `name`, in evaluation mode on `device`; one instance per process.

    Args:
        name: "efficientnet_lite0" (packaged weights) or "inception_v3" (torch-fidelity's, the field's FID).
        weights: local file with the weights of Inception-v3, where they cannot be downloaded.

    Raises:
        ValueError: for an unknown name, or weights that cannot be had.
    """
    if name not in METRIC_NAMES:
        raise ValueError(f"feature extractor {name!r} is unknown: use one of {', '.join(METRIC_NAMES)}")
    with torch.inference_mode(False):  # the network may serve a loss later, see `efficientnet_lite0`
        return _extractor(name, weights).to(device)


@cache
def _extractor(name: str, weights: str | None) -> FeatureExtractorBase:
    if name == "efficientnet_lite0":
        return EfficientNetFeatures().eval()
    # torch-fidelity unpickles whatever the file holds; it is given a copy of tensors that were loaded safely.
    safe = io.BytesIO()
    torch.save(load_weights(URL_INCEPTION_V3, weights, option="extractor_weights"), safe)
    safe.seek(0)
    try:
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=safe).eval()
    except RuntimeError:
        raise ValueError(f"extractor_weights: {weights} does not hold torch-fidelity's Inception-v3") from None


@torch.no_grad()
def images_to_features(
    batches: Tensor | Iterable[Tensor], extractor: FeatureExtractorBase, batch_size: int = 100
) -> Tensor:
    """Features [N, D], float32 on the CPU, of uint8 pictures.

    Args:
        batches: pictures [N, 3, H, W], or an iterable of such batches, in any sizes.
        batch_size: how many go through the network at once; changes no result beyond rounding (1e-5).
    """
    device = next(extractor.parameters()).device
    batches = [batches] if isinstance(batches, Tensor) else batches
    chunks = (chunk for batch in batches for chunk in batch.split(batch_size))
    return torch.cat([extractor(chunk.to(device))[0].float().cpu() for chunk in chunks])

"""Feature extractors behind torch-fidelity's interface, and features of many images."""

import io
import threading
from collections.abc import Iterable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torch_fidelity.registry import register_feature_extractor

from eqvae.efficientnet import efficientnet_lite0
from eqvae.evaluation.dino import ARCHITECTURES, DinoFeatures
from eqvae.evaluation.metric import EXTRACTORS
from eqvae.fixed_batches import map_rows, regroup
from eqvae.precision import encoding
from eqvae.weights import load_weights

SMALL_INPUT_SIZE, LARGE_INPUT_SIZE = 64, 224  # for images up to 64 pixels, and for larger ones
SPATIAL_CHANNELS = 7  # of a map at 1/16 of the input side
GROUP = 100  # images that go through the network at once on an accelerator, in whole tens on a processor
WITH_FILES = ("inception_v3", *ARCHITECTURES)  # extractors whose weights may come from a local file
SPATIAL_STAGE = 3  # of EfficientNet-Lite0: that map


class EfficientNetFeatures(FeatureExtractorBase):
    """Features of EfficientNet-Lite0 from uint8 images [B, 3, H, W]: a tuple in the order of `features_list`.

    Every image is resized to one side (bicubic, antialiased, as Pillow does), part of the metric's definition.
    "1280" are pooled features [B, 1280]; "spatial" the first seven channels of the map at 1/16 of that side, position
    by position, [B, 7 (side / 16)^2]; "logits_unbiased" [B, 1000] the last layer's products without its bias.

    Args:
        input_size: that side; None: 64 for images up to 64 pixels, 224 for larger ones.
    """

    FEATURES = ("1280", "spatial", "logits_unbiased")

    def __init__(
        self,
        name: str = "efficientnet_lite0",
        features_list: list[str] | None = None,
        input_size: int | None = None,
        **kwargs: object,  # torch-fidelity hands all its options to every extractor
    ):
        super().__init__(name, list(features_list or self.FEATURES))
        self.network = efficientnet_lite0()
        self.input_size = input_size

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        images = input
        assert images.dtype == torch.uint8, f"features are taken of uint8 images, got {images.dtype}"
        images = images.float() / 127.5 - 1
        small = max(images.shape[-2:]) <= SMALL_INPUT_SIZE
        side = self.input_size or (SMALL_INPUT_SIZE if small else LARGE_INPUT_SIZE)
        images = F.interpolate(images, (side, side), mode="bicubic", antialias=True)
        last, (middle,) = self.network.forward_intermediates(images, indices=[SPATIAL_STAGE])
        pooled = self.network.forward_head(last, pre_logits=True)
        classifier = self.network.classifier
        assert isinstance(classifier, torch.nn.Linear)
        logits = pooled @ classifier.weight.T
        features = dict(zip(self.FEATURES, (pooled, _spatial(middle), logits), strict=True))
        return tuple(features[name] for name in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return EfficientNetFeatures.FEATURES

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits_unbiased" if metric == "isc" else "1280"

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(4, 3, SMALL_INPUT_SIZE, SMALL_INPUT_SIZE, dtype=torch.uint8)


register_feature_extractor("efficientnet_lite0", EfficientNetFeatures)


class InceptionFeatures(FeatureExtractorInceptionV3):
    """torch-fidelity's Inception-v3 of 2015 with ADM's spatial features.

    Pooled [B, 2048], spatial [B, 2023] (the first seven channels of the layer `mixed_6`, 17 x 17 positions, channels
    last) and logits without bias [B, 1008].

    Args:
        weights: what torch-fidelity loads; a file or an open one.
    """

    def __init__(self, weights: io.BytesIO):
        super().__init__("inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=weights)
        # TensorFlow counts blocks from 0 (mixed, mixed_1, ...), torchvision from 5b: mixed_6 is Mixed_6d.
        self.Mixed_6d.register_forward_hook(self._keep)
        self._kept = threading.local()  # batches pass side by side

    def _keep(self, block: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self._kept.middle = output

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        pooled, logits = super().forward(x)
        spatial = _spatial(self._kept.middle)
        del self._kept.middle
        return pooled, spatial, logits


def _spatial(middle: Tensor) -> Tensor:
    """[B, C, h, w] to [B, h w 7]: channels last, as ADM's stored statistics have them."""
    return middle[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)


def create_extractor(
    name: str = "efficientnet_lite0", weights: str | None = None, device: torch.device | str = "cpu"
) -> FeatureExtractorBase:
    """The extractor called `name`, in evaluation mode on `device`; one instance per process.

    It maps uint8 images [B, 3, H, W] to pooled features, spatial features and logits without bias; DINOv2 to the first
    alone.

    Args:
        name: "efficientnet_lite0" (packaged weights), "inception_v3" (torch-fidelity's, the field's FID), or
            "dinov2_large".
        weights: local file with the weights of Inception-v3 or DINOv2, where they cannot be downloaded.

    Raises:
        ValueError: for an unknown name, weights that cannot be had, or a file of weights for packaged ones.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"feature extractor {name!r} is unknown: use one of {', '.join(EXTRACTORS)}")
    require_fitting_weights(name, weights)
    with torch.inference_mode(False):  # the network may serve a loss later, see `efficientnet_lite0`
        return _extractor(name, weights).to(device)


def require_fitting_weights(name: str, weights: str | None) -> None:
    """Refuse a file of weights for an extractor that has its own in the package.

    Raises:
        ValueError: naming both.
    """
    if weights is not None and name not in WITH_FILES:
        raise ValueError(f"extractor_weights {weights}: {name} has its weights in the package, leave the option out")


@cache
def _extractor(name: str, weights: str | None) -> FeatureExtractorBase:
    if name == "efficientnet_lite0":
        return EfficientNetFeatures().eval()
    if name in ARCHITECTURES:
        with torch.random.fork_rng(devices=[]):  # weights are drawn before they are replaced
            return DinoFeatures(name, weights).eval()
    # torch-fidelity unpickles whatever the file holds; it is given a copy of tensors that were loaded safely.
    safe = io.BytesIO()
    torch.save(load_weights(URL_INCEPTION_V3, weights, option="extractor_weights"), safe)
    safe.seek(0)
    try:
        return InceptionFeatures(safe).eval()
    except RuntimeError:
        raise ValueError(f"extractor_weights: {weights} does not hold torch-fidelity's Inception-v3") from None


def images_to_features(batches: Tensor | Iterable[Tensor], extractor: FeatureExtractorBase) -> Tensor:
    """Pooled features [N, D], float32 on the CPU, of uint8 images.

    Args:
        batches: images [N, 3, H, W], or an iterable of such batches, in any sizes.
    """
    return torch.cat([pooled for pooled, *_ in images_to_outputs(batches, extractor)])


def images_to_outputs(
    batches: Tensor | Iterable[Tensor], extractor: FeatureExtractorBase
) -> Iterator[tuple[Tensor, ...]]:
    """Everything an extractor gives, float32 on the CPU, in groups of 100 images.

    On a processor an image's features are the same to the last bit however the images are cut into batches; on an
    accelerator to rounding (1e-5). Arguments as for `images_to_features`.
    """
    device = next(extractor.parameters()).device

    @torch.no_grad()
    def extract(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.float() for output in extractor(images.to(device)))

    for group in regroup([batches] if isinstance(batches, Tensor) else batches, GROUP):
        with encoding("float32", device):  # of convolutions, too, which have TF32 by torch's own setting
            outputs = map_rows(extract, group, device=device, batch_size=GROUP)
        yield outputs

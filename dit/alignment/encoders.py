"""Frozen image encoders whose tokens a generator is aligned with."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from timm.models.efficientnet import EfficientNet
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from eqvae.devices import column
from eqvae.efficientnet import FrozenNetwork, efficientnet_lite0
from eqvae.foundation import FeatureEncoder
from eqvae.network import quick_hub
from eqvae.weights import torch_refusal

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CONTAINERS = ("model", "state_dict", "target_encoder", "teacher")  # around the weights in public files
PREFIXES = ("module.base_encoder.", "module.")  # MoCo v3 trains two encoders; this one is kept


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
        options: dict[str, Any] = {"img_size": self.preset.patch_size * grid, "num_classes": 0}
        if self.weights is None:
            return self._download(options)
        network = timm.create_model(self.preset.architecture, pretrained=False, **options)
        assert isinstance(network, VisionTransformer)
        found = checkpoint_filter_fn(_read_weights(self.weights), network)  # resamples the position table
        own = network.state_dict()
        bad = [key for key in own if key not in found or found[key].shape != own[key].shape]
        if bad:
            raise ValueError(f"{self.weights} is no encoder {self.name}: {bad[0]} is missing or of another shape")
        network.load_state_dict({key: found[key] for key in own})
        return network

    def _download(self, options: dict[str, Any]) -> VisionTransformer:
        remedy = f"give a local file as model.init_args.alignment.encoder.weights for {self.name}"
        if "." not in self.preset.architecture:
            raise ValueError(f"encoder weights of {self.name} have no download: {remedy}")
        try:
            with quick_hub():
                network = timm.create_model(self.preset.architecture, pretrained=True, **options)
        except (OSError, RuntimeError, HfHubHTTPError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"encoder weights cannot be downloaded ({reason}): {remedy}") from None
        assert isinstance(network, VisionTransformer)
        return network


def _resized(images: Tensor, side: int) -> Tensor:
    """Bicubic without antialiasing, as in REPA."""
    return images if images.shape[-1] == side else F.interpolate(images, (side, side), mode="bicubic")


def _read_weights(path: str) -> dict[str, Tensor]:
    """A flat state dict out of whatever container a public file has around it. Nothing but tensors is unpickled."""
    weights: Any  # what a file holds may be anything
    try:
        if Path(path).suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"encoder weights cannot be read from {path} ({torch_refusal(error)}): give another") from None
    for container in CONTAINERS:
        weights = weights.get(container, weights) if isinstance(weights, dict) else weights
    named = dict(weights) if isinstance(weights, dict) else {}
    if not named or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in named.items()):
        raise ValueError(f"{path} holds no state dict of an encoder: give another")
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in named):
            named = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
    return named

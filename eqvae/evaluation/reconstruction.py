"""How well images are reconstructed: PSNR, SSIM, perceptual distance, and features of both sides."""

import math
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from eqvae.data.images import to_float, to_uint8
from eqvae.evaluation.distances import frechet_distance
from eqvae.evaluation.features import WITH_FILES, create_extractor, images_to_features
from eqvae.evaluation.metric import EXTRACTORS, Metric
from eqvae.losses.perceptual import create_perceptual

SSIM_WINDOW = 11  # pixels, the smallest image SSIM is defined for


def images_to_psnr(images: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB per image [B] of uint8 images [B, 3, H, W]: 20 log10(255 / RMSE); identical ones give 100."""
    error = (images.double() - target.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255.0**2 / error.clamp_min(255.0**2 * 1e-10))


def images_to_ssim(images: Tensor, target: Tensor) -> Tensor:
    """SSIM per image [B] of uint8 images: Gaussian window 11 x 11, sigma 1.5, K .01 and .03, data range 255.

    As torchmetrics takes it: the mean over all pixels and channels, borders reflected. Wang et al., 2004, leave out
    the border; values on small images differ.

    Raises:
        ValueError: for images below 11 x 11.
    """
    if min(images.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least 11 x 11 pixels, got {tuple(images.shape[-2:])}")
    values = structural_similarity_index_measure(
        images.float(), target.float(), data_range=255.0, sigma=1.5, kernel_size=SSIM_WINDOW, reduction="none"
    )
    assert isinstance(values, Tensor)  # a pair only where more is asked for
    return values.reshape(len(images))


IMAGE_METRICS = (
    Metric(
        "psnr",
        "PSNR (dB)",
        "higher",
        compute=images_to_psnr,
        definition="20 log10(255 / RMSE) of each image in uint8, then the mean",
    ),
    Metric(
        "ssim",
        "SSIM",
        "higher",
        compute=images_to_ssim,
        definition="structural similarity, Gaussian window 11 x 11, sigma 1.5, range 255; mean over images",
    ),
)
"""Of each pair of uint8 images [B, 3, H, W], reconstruction and original; means over images are reported."""

RECONSTRUCTION_METRICS = (
    *IMAGE_METRICS,
    Metric(
        "perceptual*",
        "Perceptual",
        "lower",
        definition="LPIPS, or the unlearned distance on EfficientNet-Lite0, as the name says; mean over images",
    ),
    *(names.distance_metric("r", "Reconstruction") for names in EXTRACTORS.values()),
)


class ReconstructionMetrics:
    """Accumulates pairs of images and reconstructions, then reports means and standard deviations.

    Both sides are rounded to uint8 first, as if written to files. Quantities: `psnr` (per image, then the mean),
    `ssim`, `perceptual_<name>`; the Fréchet distance between images and reconstructions as `rfid` or
    `rfd_<extractor>`. What is not finite becomes no image: its values, and the distance of all, are NaN.

    Args:
        extractor: features of the Fréchet distance, a name of `create_extractor`, or several of them, each with its own
            distance; None leaves the distance out.
        extractor_weights: local weights of Inception-v3 or DINOv2.
        perceptual: a name of `create_perceptual`; "none" leaves it out.
        perceptual_weights_file: local backbone of LPIPS.
        uint8_rule: "round" or "truncate".

    Raises:
        ValueError: for one file of weights and two extractors that take one.
    """

    def __init__(
        self,
        extractor: str | list[str] | None = "efficientnet_lite0",
        extractor_weights: str | None = None,
        perceptual: str = "efficientnet_lite0",
        perceptual_weights_file: str | None = None,
        uint8_rule: Literal["round", "truncate"] = "round",
    ):
        self.extractors = [extractor] if isinstance(extractor, str) else list(extractor or [])
        loading = [name for name in self.extractors if name in WITH_FILES]
        if extractor_weights is not None and len(loading) > 1:
            names = " or of ".join(sorted(loading, reverse=True))
            raise ValueError(f"extractor_weights {extractor_weights} is of {names}: measure one after the other")
        if extractor_weights is not None and not loading:
            raise ValueError(
                f"extractor_weights {extractor_weights}: {', '.join(self.extractors)} needs no file, leave it out"
            )
        self.extractor_weights = extractor_weights
        self.perceptual, self.perceptual_weights_file = perceptual, perceptual_weights_file
        self.uint8_rule: Literal["round", "truncate"] = uint8_rule
        self._values: dict[str, list[Tensor]] = {}
        self._all_finite = True
        self._features = {name: {"real": [], "generated": []} for name in self.extractors}

    @torch.no_grad()
    def update(self, images: Tensor, reconstructions: Tensor) -> None:
        """Add images and their reconstructions, both float [B, 3, H, W], nominally in [-1, 1]."""
        finite = reconstructions.isfinite().flatten(1).all(1)
        self._all_finite = self._all_finite and bool(finite.all())
        real, generated = to_uint8(images, self.uint8_rule), to_uint8(reconstructions, self.uint8_rule)
        for metric in IMAGE_METRICS:
            assert metric.compute is not None
            self._add(metric.name, metric.compute(generated, real), finite)
        distance = create_perceptual(self.perceptual, self.perceptual_weights_file)
        if distance is not None:
            self._add(f"perceptual_{distance.name}", distance(to_float(generated), to_float(real)), finite)
        for name, kept in self._features.items():
            weights = self.extractor_weights if name in WITH_FILES else None
            extractor = create_extractor(name, weights, images.device)
            kept["real"].append(images_to_features(real, extractor))
            kept["generated"].append(images_to_features(generated, extractor))

    def _add(self, name: str, values: Tensor, finite: Tensor) -> None:
        self._values.setdefault(name, []).append(values.double().where(finite, math.nan).cpu())

    def features(self, extractor: str | None = None) -> dict[str, Tensor]:
        """Features [N, D] of the images ("real") and of their reconstructions ("generated"); None: the first ones."""
        kept = self._features[extractor or self.extractors[0]]
        return {name: torch.cat(parts) for name, parts in kept.items()}

    def compute(self) -> dict[str, float | str]:
        """The report: means, `num_images`, and the `uint8_rule` they hold for."""
        assert self._values, "nothing was accumulated"
        report: dict[str, float | str] = {name: float(torch.cat(parts).mean()) for name, parts in self._values.items()}
        for extractor in self.extractors:
            distance = frechet_distance(**self.features(extractor)) if self._all_finite else math.nan
            report[f"r{EXTRACTORS[extractor].distance}"] = distance
        num_images = sum(len(part) for part in self._values["psnr"])
        return report | {"num_images": float(num_images), "uint8_rule": self.uint8_rule}

    def standard_deviations(self) -> dict[str, float]:
        """Spread over images of each quantity that is a mean of them; nothing of one image."""
        whole = {name: torch.cat(parts) for name, parts in self._values.items()}
        return {name: float(each.std(correction=0)) for name, each in whole.items() if len(each) > 1}

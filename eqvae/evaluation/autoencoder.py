"""All measurements of an autoencoder in one pass over pictures."""

from typing import Literal

import torch
from torch import Tensor

from eqvae.autoencoders import KLAutoencoder
from eqvae.data.images import to_uint8
from eqvae.equivariance import equivariance_errors
from eqvae.evaluation.distances import frechet_distance
from eqvae.evaluation.features import METRIC_NAMES, create_extractor
from eqvae.evaluation.latents import effective_rank, high_frequency_share, intrinsic_dimension
from eqvae.evaluation.reconstruction import images_to_psnr, images_to_ssim
from eqvae.losses.perceptual import create_perceptual


class AutoencoderEvaluation:
    """Accumulates batches, then reports one number per quantity.

    Reconstructions decode the posterior mean. Quantities: `psnr`, `ssim`, `perceptual_<name>`, `r<distance>` (rfid, or
    rfd_efficientnet_lite0), `equivariance/latent/<probe>`, `equivariance/decoded/<probe>`, `intrinsic_dimension`
    (TwoNN), `effective_rank`, `high_frequency_share`, `num_images`.

    Args:
        extractor: features of the Fréchet distance, "efficientnet_lite0" or "inception_v3".
        extractor_weights: local weights of Inception-v3.
        perceptual: distance that is reported, as in `ReconstructionLoss`.
        perceptual_weights_file: local backbone of LPIPS.
        uint8_rule: "round" or "truncate".
        num_equivariance_images: pictures on which the equivariance error is measured.
        num_latents: pictures whose latents give dimension, rank and spectrum.
    """

    def __init__(
        self,
        extractor: str = "efficientnet_lite0",
        extractor_weights: str | None = None,
        perceptual: str = "efficientnet_lite0",
        perceptual_weights_file: str | None = None,
        uint8_rule: Literal["round", "truncate"] = "round",
        num_equivariance_images: int = 512,
        num_latents: int = 2000,
    ):
        self.extractor, self.extractor_weights = extractor, extractor_weights
        self.perceptual, self.perceptual_weights_file = perceptual, perceptual_weights_file
        self.uint8_rule = uint8_rule
        self.num_equivariance_images, self.num_latents = num_equivariance_images, num_latents
        self.reset()

    def reset(self) -> None:
        """Forget what was accumulated."""
        self._values: dict[str, list[Tensor]] = {}
        self._features: dict[str, list[Tensor]] = {"real": [], "generated": []}
        self._latents: list[Tensor] = []
        self._num_images = 0

    @torch.no_grad()
    def update(self, autoencoder: KLAutoencoder, images: Tensor) -> None:
        """Add pictures [B, 3, H, W] in [-1, 1]."""
        latents = autoencoder.encode(images).mean
        decoded = autoencoder.decode(latents).float()
        real, generated = to_uint8(images, self.uint8_rule), to_uint8(decoded, self.uint8_rule)
        self._add("psnr", images_to_psnr(generated, real))
        self._add("ssim", images_to_ssim(generated, real))
        distance = create_perceptual(self.perceptual, self.perceptual_weights_file)
        if distance is not None:
            self._add(f"perceptual_{distance.name}", distance(decoded.clamp(-1, 1), images))
        extractor = create_extractor(self.extractor, self.extractor_weights).to(images.device)
        for name, pictures in (("real", real), ("generated", generated)):
            self._features[name].append(extractor(pictures)[0].float().cpu())
        if self._num_images < self.num_equivariance_images:
            few = images[: self.num_equivariance_images - self._num_images]
            for kind, errors in equivariance_errors(autoencoder, few).items():
                for probe, values in errors.items():
                    self._add(f"equivariance/{kind}/{probe}", values)
        if self._num_images < self.num_latents:
            self._latents.append(latents[: self.num_latents - self._num_images].float().cpu())
        self._num_images += len(images)

    def _add(self, name: str, values: Tensor) -> None:
        self._values.setdefault(name, []).append(values.float().cpu())

    def compute(self) -> dict[str, float]:
        """The report. A latent space too small for a quantity leaves it out rather than guessing."""
        assert self._num_images > 0, "nothing was accumulated"
        report = {name: float(torch.cat(values).mean()) for name, values in self._values.items()}
        features = {name: torch.cat(parts) for name, parts in self._features.items()}
        report[f"r{METRIC_NAMES[self.extractor]}"] = frechet_distance(features["real"], features["generated"])
        latents = torch.cat(self._latents)
        report["intrinsic_dimension"] = intrinsic_dimension(latents)
        report["effective_rank"] = effective_rank(latents)
        report["high_frequency_share"] = high_frequency_share(latents)
        return report | {"num_images": float(self._num_images)}

"""All measurements of an autoencoder in one pass over pictures."""

from typing import Literal

import torch
from torch import Tensor

from eqvae.autoencoders import KLAutoencoder
from eqvae.equivariance import equivariance_errors
from eqvae.evaluation.latents import effective_rank, high_frequency_share, intrinsic_dimension
from eqvae.evaluation.reconstruction import ReconstructionMetrics


class AutoencoderEvaluation:
    """Accumulates batches, then reports one number per quantity.

    Reconstructions decode the posterior mean. Quantities: those of `ReconstructionMetrics`,
    `equivariance/latent/<probe>`, `equivariance/decoded/<probe>`, `intrinsic_dimension` (TwoNN), `effective_rank` (of
    whole latents), `high_frequency_share`, `num_images`.

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
        self.settings = (extractor, extractor_weights, perceptual, perceptual_weights_file, uint8_rule)
        self.num_equivariance_images, self.num_latents = num_equivariance_images, num_latents
        self.reset()

    def reset(self) -> None:
        """Forget what was accumulated."""
        self._reconstruction = ReconstructionMetrics(*self.settings)
        self._errors: dict[str, list[Tensor]] = {}
        self._latents: list[Tensor] = []
        self._num_images = 0

    @torch.no_grad()
    def update(self, autoencoder: KLAutoencoder, images: Tensor) -> None:
        """Add pictures [B, 3, H, W] in [-1, 1]."""
        latents = autoencoder.encode(images).mean
        self._reconstruction.update(images, autoencoder.decode(latents).float())
        if self._num_images < self.num_equivariance_images:
            few = images[: self.num_equivariance_images - self._num_images]
            for kind, errors in equivariance_errors(autoencoder, few).items():
                for probe, values in errors.items():
                    self._errors.setdefault(f"equivariance/{kind}/{probe}", []).append(values.float().cpu())
        if self._num_images < self.num_latents:
            self._latents.append(latents[: self.num_latents - self._num_images].float().cpu())
        self._num_images += len(images)

    def compute(self) -> dict[str, float]:
        """The report; the intrinsic dimension is left out where fewer than three latents differ."""
        report = self._reconstruction.compute()
        del report["uint8_rule"]
        report |= {name: float(torch.cat(values).mean()) for name, values in self._errors.items()}
        latents = torch.cat(self._latents)
        if len(latents.flatten(1).unique(dim=0)) >= 3:
            report["intrinsic_dimension"] = intrinsic_dimension(latents)
        report["effective_rank"] = effective_rank(latents, of="latents")
        report["high_frequency_share"] = high_frequency_share(latents)
        return report

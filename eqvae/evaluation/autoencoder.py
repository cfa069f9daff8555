"""All measurements of an autoencoder in one pass over pictures."""

from typing import Literal

import torch
from torch import Tensor

from eqvae.autoencoders import KLAutoencoder, LatentStatistics
from eqvae.equivariance import equivariance_errors
from eqvae.evaluation.latents import effective_rank, high_frequency_share, intrinsic_dimension, radial_power_spectrum
from eqvae.evaluation.quantization import ContinuousView, images_to_latents
from eqvae.evaluation.reconstruction import SSIM_WINDOW, ReconstructionMetrics
from eqvae.losses.perceptual import SMALLEST_SIDES


class LatentMetrics:
    """Accumulates pictures, then tells what an autoencoder's latents are like.

    Latents are posterior means, or the codebook vectors of a quantizing autoencoder, whose equivariance error is that
    of its features before the quantizer.

    Args:
        num_equivariance_images: pictures on which the equivariance error is measured.
        num_latents: pictures whose latents give dimension, rank and spectrum.
    """

    def __init__(self, num_equivariance_images: int = 512, num_latents: int = 2000):
        self.num_equivariance_images, self.num_latents = num_equivariance_images, num_latents
        self.num_images = 0
        self._errors: dict[str, list[Tensor]] = {}
        self._latents: list[Tensor] = []
        self._statistics = LatentStatistics()

    @torch.no_grad()
    def update(self, autoencoder: KLAutoencoder, images: Tensor) -> None:
        """Add pictures [B, 3, H, W] in [-1, 1]."""
        latents, std = images_to_latents(autoencoder, images)
        self._statistics.update(latents, std)
        if self.num_images < self.num_equivariance_images:
            few = images[: self.num_equivariance_images - self.num_images]
            for kind, errors in equivariance_errors(ContinuousView.of(autoencoder), few).items():
                for probe, values in errors.items():
                    self._errors.setdefault(f"equivariance/{kind}/{probe}", []).append(values.float().cpu())
        if self.num_images < self.num_latents:
            self._latents.append(latents[: self.num_latents - self.num_images].float().cpu())
        self.num_images += len(images)

    def compute(self) -> dict[str, float]:
        """The report; the intrinsic dimension is left out where fewer than three latents differ."""
        report = {name: float(torch.cat(values).mean()) for name, values in self._errors.items()}
        latents = torch.cat(self._latents)
        if len(latents.flatten(1).unique(dim=0)) >= 3:
            report["intrinsic_dimension"] = intrinsic_dimension(latents)
        report["effective_rank"] = effective_rank(latents, of="latents")
        report["high_frequency_share"] = high_frequency_share(latents)
        return report

    def standard_deviations(self) -> dict[str, float]:
        """Spread over pictures of each quantity that is a mean of them."""
        return {name: float(torch.cat(parts).double().std(correction=0)) for name, parts in self._errors.items()}

    def curves(self) -> dict[str, list[float]]:
        """Lists: `spectrum_frequency` (cycles per latent pixel), `spectrum_power`, and per channel `shift` and `scale`
        of these pictures' latents, (raw - shift) * scale having mean 0 and std 1."""
        frequencies, power = radial_power_spectrum(torch.cat(self._latents))
        measured = self._statistics.normalization()
        return {
            "spectrum_frequency": frequencies.tolist(),
            "spectrum_power": power.tolist(),
            "shift": list(measured.shift),
            "scale": list(measured.scale),
        }


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

    @property
    def smallest_sides(self) -> dict[str, int]:
        """Shortest side in pixels that each metric can judge, by its name."""
        perceptual = self.settings[2]
        return {"SSIM": SSIM_WINDOW, perceptual: SMALLEST_SIDES.get(perceptual, 1)}

    def reset(self) -> None:
        """Forget what was accumulated."""
        self._reconstruction = ReconstructionMetrics(*self.settings)
        self._latents = LatentMetrics(self.num_equivariance_images, self.num_latents)

    @torch.no_grad()
    def update(self, autoencoder: KLAutoencoder, images: Tensor) -> None:
        """Add pictures [B, 3, H, W] in [-1, 1]."""
        latents, _ = images_to_latents(autoencoder, images)
        self._reconstruction.update(images, autoencoder.decode(latents).float())
        self._latents.update(autoencoder, images)

    def compute(self) -> dict[str, float]:
        """The report; the intrinsic dimension is left out where fewer than three latents differ."""
        report = self._reconstruction.compute()
        del report["uint8_rule"]
        return report | self._latents.compute()

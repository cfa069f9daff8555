"""All measurements of an autoencoder in one pass over images."""

import math
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from eqvae.autoencoders import Autoencoder, LatentStatistics
from eqvae.equivariance import equivariance_errors
from eqvae.evaluation.features import require_fitting_weights
from eqvae.evaluation.latents import LATENT_METRICS, MINIMUM_DIFFERENT, radial_power_spectrum
from eqvae.evaluation.reconstruction import SSIM_WINDOW, ReconstructionMetrics
from eqvae.losses.perceptual import BACKBONE_URLS, SMALLEST_SIDES
from eqvae.precision import encoding
from eqvae.selection import describe_selection, evenly_spaced
from eqvae.weights import is_at_hand

PUBLISHED = "published"  # the networks of published tables, where their weights are at hand


class LatentMetrics:
    """Accumulates images, then tells what an autoencoder's latents are like.

    Latents are posterior means, or the codebook vectors of a quantizing autoencoder, whose equivariance error is that
    of its features before the quantizer.

    Args:
        num_equivariance_images: images, evenly spaced, on which the equivariance error is measured.
        num_latents: images, evenly spaced, whose latents give dimension, rank and spectrum.
        expected_images: how many will come; None does not know, so that all are measured and kept.
    """

    def __init__(self, num_equivariance_images: int = 512, num_latents: int = 2000, expected_images: int | None = None):
        self.num_images, self.expected_images = 0, expected_images
        self._chosen = {
            "equivariance": _mask(num_equivariance_images, expected_images),
            "latents": _mask(num_latents, expected_images),
        }
        self._errors: dict[str, list[Tensor]] = {}
        self._latents: list[Tensor] = []
        self._statistics = LatentStatistics()

    @torch.no_grad()
    def update(self, autoencoder: Autoencoder, images: Tensor) -> None:
        """Add images [B, 3, H, W] in [-1, 1].

        Raises:
            ValueError: if more come than were expected.
        """
        latents, std = autoencoder.latent_moments(images)
        self._statistics.update(latents, std)
        few = images[self._choose("equivariance", len(images)).to(images.device)]
        if len(few):
            for kind, errors in equivariance_errors(autoencoder, few).items():
                for probe, values in errors.items():
                    self._errors.setdefault(f"equivariance/{kind}/{probe}", []).append(values.float().cpu())
        self._latents.append(latents[self._choose("latents", len(images)).to(latents.device)].float().cpu())
        self.num_images += len(images)

    def _choose(self, purpose: str, count: int) -> Tensor:
        """[count] bool: which of the next images serve it."""
        if self.expected_images is None:
            return torch.ones(count, dtype=torch.bool)
        if self.num_images + count > self.expected_images:
            raise ValueError(f"more than the {self.expected_images} expected images came: their choice is not even")
        return self._chosen[purpose][self.num_images : self.num_images + count]

    def compute(self) -> dict[str, float]:
        """The report; the intrinsic dimension is left out where fewer than three latents differ.

        Where latents are not finite, what is computed of them is NaN.
        """
        report = {name: float(torch.cat(values).mean()) for name, values in self._errors.items()}
        latents = torch.cat(self._latents)
        if not self.is_finite:
            return report | {metric.name: math.nan for metric in LATENT_METRICS if metric.compute is not None}
        few = len(latents.flatten(1).unique(dim=0)) < MINIMUM_DIFFERENT
        for metric in LATENT_METRICS:
            if metric.compute is not None and not (few and "different_latents" in metric.needs):
                report[metric.name] = metric.compute(latents)
        return report

    @property
    def is_finite(self) -> bool:
        """Whether all latents that came are; those of an autoencoder that diverged are not."""
        return bool(self._statistics.sum_of_squares.isfinite().all())

    def selections(self) -> dict[str, str]:
        """Which of the images that came the parts of the report are of: `equivariance_images`, `latent_images`."""
        counts = {"equivariance_images": 0, "latent_images": len(torch.cat(self._latents))}
        if self._errors:
            counts["equivariance_images"] = sum(map(len, next(iter(self._errors.values()))))
        return {name: describe_selection(count, self.num_images) for name, count in counts.items()}

    def standard_deviations(self) -> dict[str, float]:
        """Spread over images of each quantity that is a mean of them; nothing of one image."""
        whole = {name: torch.cat(parts).double() for name, parts in self._errors.items()}
        return {name: float(each.std(correction=0)) for name, each in whole.items() if len(each) > 1}

    def curves(self) -> dict[str, list[float]]:
        """Lists: `spectrum_frequency` (cycles per latent pixel), `spectrum_power`, and per channel `shift` and `scale`.

        The latter are of these images' latents, (raw - shift) * scale having mean 0 and std 1.
        """
        frequencies, power = radial_power_spectrum(torch.cat(self._latents))
        measured = self._statistics.normalization()
        return {
            "spectrum_frequency": frequencies.tolist(),
            "spectrum_power": power.tolist(),
            "shift": list(measured.shift),
            "scale": list(measured.scale),
        }


def _mask(count: int, total: int | None) -> Tensor:
    """[total] bool: the `count` evenly spaced ones."""
    total = total or 0
    return torch.zeros(total, dtype=torch.bool).index_fill_(0, evenly_spaced(count, total), True)


class AutoencoderEvaluation:
    """Accumulates batches, then reports one number per quantity.

    Reconstructions decode the posterior mean. Quantities: those of `ReconstructionMetrics`,
    `equivariance/latent/<probe>`, `equivariance/decoded/<probe>`, `intrinsic_dimension` (TwoNN), `effective_rank` (of
    whole latents), `high_frequency_share`, `num_images`.

    Args:
        extractor: features of the Fréchet distance, a name of `create_extractor`; "published" takes
            Inception-v3 where its weights are at hand (a local file, or downloaded before) and else the packaged one.
        extractor_weights: local weights of Inception-v3 or DINOv2.
        perceptual: distance that is reported, as in `ReconstructionLoss`; "published" takes lpips_vgg where its weights
            are at hand, and else the packaged one.
        perceptual_weights_file: local backbone of LPIPS.
        uint8_rule: "round" or "truncate".
        num_equivariance_images: images, evenly spaced, on which the equivariance error is measured.
        num_latents: images, evenly spaced, whose latents give dimension, rank and spectrum.
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
        if extractor != PUBLISHED:
            require_fitting_weights(extractor, extractor_weights)
        self.extractor, self.extractor_weights = extractor, extractor_weights
        self.perceptual, self.perceptual_weights_file = perceptual, perceptual_weights_file
        self.uint8_rule: Literal["round", "truncate"] = uint8_rule
        self.num_equivariance_images, self.num_latents = num_equivariance_images, num_latents
        self._accumulated: tuple[ReconstructionMetrics, LatentMetrics] | None = None

    @cached_property
    def networks(self) -> dict[str, str]:
        """The extractor and the perceptual distance that are used, "published" being resolved at first use."""
        chosen = {"extractor": self.extractor, "perceptual": self.perceptual}
        if self.extractor == PUBLISHED:
            at_hand = is_at_hand(URL_INCEPTION_V3, self.extractor_weights)
            chosen["extractor"] = "inception_v3" if at_hand else "efficientnet_lite0"
        if self.perceptual == PUBLISHED:
            at_hand = is_at_hand(BACKBONE_URLS["vgg"], self.perceptual_weights_file)
            chosen["perceptual"] = "lpips_vgg" if at_hand else "efficientnet_lite0"
        return chosen

    def describe(self) -> str:
        """One line: which networks measure, and why not the published ones."""
        used = ", ".join(f"{name} {network}" for name, network in self.networks.items())
        options = {"extractor": "extractor_weights", "perceptual": "perceptual_weights_file"}
        missing = [
            option
            for name, option in options.items()
            if getattr(self, name) == PUBLISHED and self.networks[name] == "efficientnet_lite0"
        ]
        why = f" (published weights are not at hand: evaluation.{', evaluation.'.join(missing)})" if missing else ""
        return f"measured with {used}{why}"

    @property
    def smallest_sides(self) -> dict[str, int]:
        """Shortest side in pixels that each metric can judge, by its name."""
        perceptual = self.networks["perceptual"]
        return {"SSIM": SSIM_WINDOW, perceptual: SMALLEST_SIDES.get(perceptual, 1)}

    def require_images(self, count: int, key: str) -> None:
        """Refuse fewer images than a distance between two sets takes.

        Raises:
            ValueError: naming the key.
        """
        if count < 2:
            raise ValueError(f"{key}: {count} image, and a distance between sets takes at least 2: give more")

    def reset(self, expected_images: int | None = None) -> None:
        """Forget what was accumulated; so many images will come (None: unknown, see `LatentMetrics`)."""
        self._accumulated = self._fresh(expected_images)

    def _fresh(self, expected_images: int | None) -> tuple[ReconstructionMetrics, LatentMetrics]:
        networks = self.networks
        fell_back = self.extractor == PUBLISHED and networks["extractor"] == "efficientnet_lite0"
        reconstruction = ReconstructionMetrics(
            networks["extractor"],
            None if fell_back else self.extractor_weights,
            networks["perceptual"],
            self.perceptual_weights_file,
            self.uint8_rule,
        )
        return reconstruction, LatentMetrics(self.num_equivariance_images, self.num_latents, expected_images)

    @torch.no_grad()
    def update(self, autoencoder: Autoencoder, images: Tensor) -> None:
        """Add images [B, 3, H, W] in [-1, 1]."""
        if self._accumulated is None:
            self._accumulated = self._fresh(None)
        reconstruction_metrics, latent_metrics = self._accumulated
        with encoding("float32", images.device):  # whatever the trainer computes in
            latents, _ = autoencoder.latent_moments(images)
            reconstruction_metrics.update(images, autoencoder.decode(latents).float())
            latent_metrics.update(autoencoder, images)

    def compute(self) -> dict[str, float]:
        """The report; the intrinsic dimension is left out where fewer than three latents differ."""
        assert self._accumulated is not None, "no image was added"
        reconstruction_metrics, latent_metrics = self._accumulated
        measured = reconstruction_metrics.compute()  # with the uint8 rule, a text
        numbers: dict[str, float] = {name: value for name, value in measured.items() if not isinstance(value, str)}
        return numbers | latent_metrics.compute()

"""Pixels plus perception as a Laplace or Gaussian likelihood (latent-diffusion's autoencoder loss)."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from eqvae.losses.perceptual import SMALLEST_SIDES, create_perceptual
from eqvae.ranges import require_choice, require_number


class ReconstructionLoss:
    """nll = sum over pixels of (r / e^l + l) / batch size, with r = |x - x'| + w d(x, x').

    The perceptual distance d, one number per image, is added to every pixel and channel, as in latent-diffusion;
    the sum is divided by the batch size alone, so an image of half the side weighs a quarter. VQ-GAN takes the mean.

    Args:
        pixel: "l1" or "mse".
        perceptual: a name of `create_perceptual`, or "none".
        perceptual_weight: w; 1 in latent-diffusion, 0.1 in sd-vae-ft-mse.
        perceptual_weights_file: local backbone weights for LPIPS where they cannot be downloaded.
        log_variance: l, a constant (0): the public code declares it a parameter that no optimizer receives.
        reduction: "sum" over pixels (latent-diffusion), or "mean" over everything (VQ-GAN).

    Raises:
        ValueError: for a word that is none of these, or a number out of its range.
    """

    def __init__(
        self,
        pixel: Literal["l1", "mse"] = "l1",
        perceptual: Literal["efficientnet_lite0", "lpips_vgg", "lpips_alex", "lpips_squeeze", "none"] = "lpips_vgg",
        perceptual_weight: float = 1.0,
        perceptual_weights_file: str | None = None,
        log_variance: float = 0.0,
        reduction: Literal["sum", "mean"] = "sum",
    ):
        require_choice("reconstruction.pixel", pixel, ("l1", "mse"))
        require_choice("reconstruction.reduction", reduction, ("sum", "mean"))
        require_number("reconstruction.perceptual_weight", perceptual_weight, least=0)
        require_number("reconstruction.log_variance", log_variance)
        self.pixel, self.perceptual = pixel, perceptual
        self.perceptual_weight = perceptual_weight
        self.distance = create_perceptual(perceptual, perceptual_weights_file) if perceptual_weight else None
        self.log_variance, self.reduction = log_variance, reduction

    @property
    def smallest_side(self) -> int:
        """Shortest side in pixels of images that can be compared."""
        return SMALLEST_SIDES[self.perceptual] if self.perceptual_weight else 1

    def __call__(self, images: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Both [B, 3, H, W] float32; returns scalars `nll` (to be minimized), `pixel` (mean), `perceptual` (mean)."""
        difference = images - target
        pixels = difference.abs() if self.pixel == "l1" else difference.square()
        total, terms = pixels, {"pixel": pixels.detach().mean()}
        if self.distance is not None:
            distance = self._perceptual(self.distance, images, target)
            total = pixels + self.perceptual_weight * distance[:, None, None, None]
            terms["perceptual"] = distance.detach().mean()
        nll = total * math.exp(-self.log_variance) + self.log_variance
        terms["nll"] = nll.mean() if self.reduction == "mean" else nll.sum() / len(images)
        return terms

    @staticmethod
    def _perceptual(distance: Callable[..., Tensor], images: Tensor, target: Tensor) -> Tensor:
        """[B], with gradient to the target, too, where it has one: that of pixels reaches it, as well."""
        return distance(images, target, both=True) if target.requires_grad else distance(images, target)

"""KL and quantizing autoencoders through one window, for measurements."""

from types import SimpleNamespace

import torch
from torch import Tensor


def images_to_latents(autoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation [B, C, h, w] of images; of a quantizing one, codebook vectors and 0.

    Args:
        autoencoder: `encode(images)` gives a posterior (`mean`, `std`) or codes (`latents`).
    """
    encoded = autoencoder.encode(images)
    if hasattr(encoded, "mean"):
        return encoded.mean, encoded.std
    return encoded.latents, torch.zeros_like(encoded.latents)


class ContinuousView:
    """A quantizing autoencoder with the quantizer as part of the decoder: transforms act on features before it.

    Source: EQ-VAE (arXiv 2502.09509), which transforms features, then quantizes, then decodes.

    Args:
        autoencoder: `features`, `quantize`, `decode` and `downsampling_factor`.
    """

    def __init__(self, autoencoder):
        self._autoencoder = autoencoder

    @staticmethod
    def of(autoencoder):
        """The view of a quantizing autoencoder; any other as it is."""
        return ContinuousView(autoencoder) if hasattr(autoencoder, "quantize") else autoencoder

    @property
    def downsampling_factor(self) -> int:
        return self._autoencoder.downsampling_factor

    def encode(self, images: Tensor) -> SimpleNamespace:
        """Features as `mean` [B, C, h, w]."""
        return SimpleNamespace(mean=self._autoencoder.features(images))

    def decode(self, features: Tensor) -> Tensor:
        """Quantize features, then decode them."""
        return self._autoencoder.decode(self._autoencoder.quantize(features).latents)

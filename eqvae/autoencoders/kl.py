"""KL autoencoders: diffusers' `AutoencoderKL` behind the project's interface."""

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from eqvae.autoencoders.base import Autoencoder


class KLAutoencoder(Autoencoder):
    """Encoder to a diagonal Gaussian posterior, decoder back to images, over an `AutoencoderKL`."""

    @property
    def latent_channels(self) -> int:
        return self.model.config.latent_channels

    def encode(self, images: Tensor) -> DiagonalGaussianDistribution:
        """Images [B, 3, H, W] in [-1, 1] to the posterior of raw latents [B, C, H / f, W / f].

        The posterior has `mean`, `std`, `logvar` (clamped to [-30, 20]), `sample(generator=None)` and `kl()`, the
        divergence from a standard normal summed over C, h, w: [B].
        """
        return self.model.encode(images).latent_dist

    def decode(self, latents: Tensor) -> Tensor:
        """Raw latents [B, C, h, w] to images [B, 3, f h, f w], near [-1, 1] but not clamped."""
        return self.model.decode(latents).sample

    def narrow_posterior(self) -> None:
        """Set the log-variance bias to -6, for random weights.

        At width zero-mean unit noise drowns the latents of an untrained encoder, and a small autoencoder needs
        thousands of steps to dig them out.
        """
        head = self.model.quant_conv if self.model.quant_conv is not None else self.model.encoder.conv_out
        with torch.no_grad():
            head.bias[self.latent_channels :] = -6.0

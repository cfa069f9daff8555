"""KL autoencoders: diffusers' `AutoencoderKL` and its like behind the project's interface."""

import copy
from functools import partial

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from eqvae.autoencoders.base import Autoencoder
from eqvae.autoencoders.constants import to_constants
from eqvae.autoencoders.encodings import Posterior
from eqvae.autoencoders.latent_losses import CodebookLoss, LatentLoss, kl_terms
from eqvae.autoencoders.normalization import Normalization
from eqvae.randomness import keyed_normal


class KLAutoencoder(Autoencoder):
    """Encoder to a diagonal Gaussian posterior, decoder back to images, over an `AutoencoderKL` or its like."""

    def encode(self, images: Tensor) -> DiagonalGaussianDistribution:
        """Images [B, 3, H, W] in [-1, 1] to the posterior of raw latents [B, C, H / f, W / f].

        The posterior has `mean`, `std`, `logvar` (clamped to [-30, 20]), `sample(generator=None)` and `kl()`, the
        divergence from a standard normal summed over C, h, w: [B].
        """
        return self.model.encode(images).latent_dist

    def posterior(self, images: Tensor) -> DiagonalGaussianDistribution:
        return self.encode(images)

    def cached_rows(self, images: Tensor) -> dict[str, Tensor]:
        """`mean` and `log_std` [B, C, h, w] float32 of the posterior."""
        posterior = self.encode(images)
        return {"mean": posterior.mean.float(), "log_std": (0.5 * posterior.logvar).float()}

    def posterior_noise(self, keys: Tensor, shape: tuple[int, int, int], seed: int, stream: str) -> Tensor:
        return keyed_normal(keys, shape, seed=seed, stream=stream)

    def sample(self, posterior: Posterior, noise: Tensor | None) -> Tensor:
        """Latents [B, C, h, w]; without noise the mean."""
        if noise is None:
            return posterior.mean
        height, width = posterior.mean.shape[-2:]
        return posterior.mean + posterior.std * noise[..., :height, :width]

    def latent_loss(self, kl_weight: float, codebook: CodebookLoss | None) -> LatentLoss:
        super().latent_loss(kl_weight, codebook)
        return partial(kl_terms, kl_weight)

    def to_diffusers(self, normalization: Normalization) -> AutoencoderKL:
        """Pipelines know one scale: any other normalization goes into the convolutions next to the latents."""
        if not isinstance(self.model, AutoencoderKL):
            return super().to_diffusers(normalization)
        if self.padding_mode != "zeros":
            raise ValueError(f"diffusers ignores padding {self.padding_mode!r}")
        model = copy.deepcopy(self.model).cpu().float()
        if len(set(normalization.scale)) == 1 and not any(normalization.shift):
            model.register_to_config(**to_constants(Normalization(scale=normalization.scale[:1])))
            return model
        if model.quant_conv is None or model.post_quant_conv is None:
            raise ValueError("its normalization needs an autoencoder with quant_conv")
        _fold_normalization(model, normalization)
        model.register_to_config(**to_constants(Normalization()))
        return model

    def narrow_posterior(self) -> None:
        """Set the log-variance bias to -6, for random weights.

        At width zero-mean unit noise drowns the latents of an untrained encoder, and a small autoencoder needs
        thousands of steps to dig them out.
        """
        layers = getattr(self.model, "quant_conv", None) or self.model.encoder
        name, value = list(layers.named_parameters())[-1]
        if name.endswith("bias") and len(value) > self.posterior_channels:  # Mochi's last layer has none
            with torch.no_grad():
                value[self.posterior_channels :] = -6.0


@torch.no_grad()
def _fold_normalization(model: AutoencoderKL, normalization: Normalization) -> None:
    """Make the autoencoder's own latents the normalized ones: mean (m - shift) scale, log variance + 2 log scale."""
    channels = model.config["latent_channels"]
    scale, shift = (torch.tensor(values).expand(channels) for values in (normalization.scale, normalization.shift))
    inward, outward = model.quant_conv, model.post_quant_conv
    assert inward is not None
    assert outward is not None
    assert inward.bias is not None
    assert outward.bias is not None
    inward.weight[:channels] *= scale[:, None, None, None]
    inward.bias[:channels] = (inward.bias[:channels] - shift) * scale
    inward.bias[channels:] += 2 * scale.log()
    outward.bias += outward.weight[:, :, 0, 0] @ shift
    outward.weight /= scale[None, :, None, None]

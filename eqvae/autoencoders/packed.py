"""FLUX.2's autoencoder: raw latents are patches of what it encodes to, and a batch norm has their statistics."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.autoencoders.encodings import Decoded
from eqvae.autoencoders.kl import KLAutoencoder
from eqvae.autoencoders.normalization import Normalization


class PackedAutoencoder(KLAutoencoder):
    """Posteriors [B, C, H / f, W / f], whose p x p neighbours are the channels of raw latents [B, p p C, H / p f, ...].

    Transforms act on posteriors: turning a raw latent would leave the order inside its patches as it was. Channel
    c p p + p dy + dx of a raw latent is channel c of the posterior, dy below and dx to the right of the patch's corner.
    """

    @property
    def patch_side(self) -> int:
        """p."""
        rows, columns = self.model.config["patch_size"]
        assert rows == columns, "patches are square"
        return rows

    @property
    def latent_channels(self) -> int:
        return self.posterior_channels * self.patch_side**2

    @property
    def downsampling_factor(self) -> int:
        return self.posterior_factor * self.patch_side

    def pack(self, values: Tensor) -> Tensor:
        """[B, C, h, w] to [B, p p C, h / p, w / p]."""
        return F.pixel_unshuffle(values, self.patch_side)

    def unpack(self, values: Tensor) -> Tensor:
        """The way back."""
        return F.pixel_shuffle(values, self.patch_side)

    def to_posterior(self, latents: Tensor) -> Tensor:
        return self.unpack(latents)

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(self.unpack(latents))

    def transformed_decode(self, latents: Tensor, transform: Callable[[Tensor], Tensor] | None = None) -> Decoded:
        return Decoded(super().decode(latents if transform is None else transform(latents)))

    def latent_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = super().latent_moments(images)
        return self.pack(mean), self.pack(std)

    def cached_rows(self, images: Tensor) -> dict[str, Tensor]:
        return {name: self.pack(values) for name, values in super().cached_rows(images).items()}

    def published_normalization(self) -> Normalization | None:
        """Running mean and variance of its batch norm; None of one that never saw latents."""
        norm = self.model.bn
        if norm.running_mean.eq(0).all() and norm.running_var.eq(1).all():
            return None
        scale = (norm.running_var.double() + self.model.config["batch_norm_eps"]).rsqrt()
        return Normalization(tuple(norm.running_mean.tolist()), tuple(scale.tolist()))

    @torch.no_grad()
    def write_constants(self, normalization: Normalization) -> dict[str, Any]:
        """Into the batch norm."""
        norm, eps = self.model.bn, self.model.config["batch_norm_eps"]
        scale = torch.tensor(normalization.scale, dtype=torch.float64)
        norm.running_mean.copy_(torch.tensor(normalization.shift, dtype=torch.float64))
        norm.running_var.copy_(scale.square().reciprocal() - eps)
        return {}

    @property
    def constant_weights(self) -> tuple[str, ...]:
        return tuple(f"bn.{name}" for name in self.model.bn.state_dict())

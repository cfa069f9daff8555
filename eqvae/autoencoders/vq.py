"""VQ autoencoders (VQ-GAN, arXiv 2012.09841): diffusers' `VQModel` behind the project's interface."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from diffusers import VQModel
from torch import Tensor

from eqvae.autoencoders.base import Autoencoder
from eqvae.autoencoders.encodings import Codes, Decoded, PointPosterior
from eqvae.autoencoders.latent_losses import CodebookLoss, LatentLoss, codebook_terms

ROWS_AT_ONCE = 8192  # bounds the distance matrix: half a GiB in float32 at 16384 codes


class VQAutoencoder(Autoencoder):
    """Encoder to features, quantizer to their nearest codebook vectors, decoder back to images, over a `VQModel`."""

    kind: ClassVar[str] = "tokens"

    @property
    def network(self) -> VQModel:
        """The model, as what it is in this family."""
        assert isinstance(self.model, VQModel)
        return self.model

    @property
    def posterior_channels(self) -> int:
        """Channels of features and latents: the dimension of a codebook vector."""
        return self.network.quantize.vq_embed_dim

    @property
    def num_codes(self) -> int:
        return self.network.quantize.n_e

    def features(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to what is quantized [B, C, H / f, W / f], where transforms act."""
        return self.network.quant_conv(self.network.encoder(images))

    def quantize(self, features: Tensor) -> Codes:
        """Features [B, C, h, w] to the codebook vectors of least squared distance, compared in float32."""
        batch, channels, height, width = features.shape
        rows = features.detach().permute(0, 2, 3, 1).reshape(-1, channels)
        indices = self._nearest(rows).view(batch, height, width)
        return Codes(indices, self.lookup(indices), features)

    def encode(self, images: Tensor) -> Codes:
        """Images [B, 3, H, W] in [-1, 1] to codes on a grid of [H / f, W / f]."""
        return self.quantize(self.features(images))

    def posterior(self, images: Tensor) -> PointPosterior:
        """Features before the quantizer, which have no spread."""
        return PointPosterior(self.features(images))

    def cached_rows(self, images: Tensor) -> dict[str, Tensor]:
        """`tokens` [B, h, w] int64."""
        return {"tokens": self.encode(images).indices}

    def latent_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Codebook vectors, and 0."""
        latents = self.encode(images).latents
        return latents, torch.zeros_like(latents)

    def transformed_decode(self, latents: Tensor, transform: Callable[[Tensor], Tensor] | None = None) -> Decoded:
        """Transform features [B, C, h, w], quantize and decode them; gradients pass straight through the quantizer."""
        codes = self.quantize(latents if transform is None else transform(latents))
        if not torch.is_grad_enabled():
            return Decoded(self.decode(codes.latents), codes)
        straight_through = codes.features + (codes.latents - codes.features).detach()
        return Decoded(self.decode(straight_through), codes)

    def latent_loss(self, kl_weight: float, codebook: CodebookLoss | None) -> LatentLoss:
        return partial(codebook_terms, codebook or CodebookLoss(), self.num_codes)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] in [0, num_codes) to codebook vectors [B, C, h, w]."""
        return self.network.quantize.embedding(indices).permute(0, 3, 1, 2).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """Codebook vectors [B, C, h, w] to images [B, 3, f h, f w], near [-1, 1] but not clamped.

        What is given is decoded, never quantized: features may be decoded, too.
        """
        condition = latents if self.network.config["norm_type"] == "spatial" else None
        return self.network.decoder(self.network.post_quant_conv(latents), condition)

    @torch.no_grad()
    def _nearest(self, rows: Tensor) -> Tensor:
        """Index [N] of the codebook vector nearest to each row [N, C]."""
        with torch.autocast(rows.device.type, enabled=False):
            codebook = self.network.quantize.embedding.weight.float()
            squares = codebook.square().sum(1)
            nearest = []
            for part in rows.float().split(ROWS_AT_ONCE):
                distances = part.square().sum(1, keepdim=True) + squares - 2 * part @ codebook.T
                nearest.append(distances.argmin(1))
        return torch.cat(nearest)

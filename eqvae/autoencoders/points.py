"""Deterministic autoencoders: an image has one latent, not a distribution of them."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from diffusers import ModelMixin
from torch import Tensor

from eqvae.autoencoders.base import Autoencoder
from eqvae.autoencoders.encodings import PointPosterior
from eqvae.autoencoders.normalization import Normalization

LATENTS = ("latent", "latents")
"""What classes of diffusers call them in the output of `encode`."""


class PointAutoencoder(Autoencoder):
    """Encoder to latents without spread, decoder back to images: DC-AE, TAESD."""

    draws: ClassVar[bool] = False

    def encode(self, images: Tensor) -> PointPosterior:
        """Images [B, 3, H, W] in [-1, 1] to latents [B, C, H / f, W / f], of std 0."""
        output = self.model.encode(self.to_model(images))
        return PointPosterior(self.from_model(self._latents(output)))

    @staticmethod
    def _latents(output: Mapping) -> Tensor:
        """Of what diffusers gives: [B, C, ...]."""
        (name,) = set(LATENTS) & set(output)
        return output[name]

    def posterior(self, images: Tensor) -> PointPosterior:
        return self.encode(images)

    def cached_rows(self, images: Tensor) -> dict[str, Tensor]:
        """`mean` [B, C, h, w] float32."""
        return {"mean": self.encode(images).mean.float()}


class FeatureAutoencoder(PointAutoencoder):
    """Features of a foundation model and a decoder for them (RAE, arXiv 2510.11690).

    diffusers' class takes and gives images in [0, 1], resizes them to the side that the encoder was trained at, and
    normalizes latents itself: what it calls latents is normalized already. Its own noise in training, which no seed
    keys, is off: `eqvae.regularizers.NoisyDecoding` is it, keyed.
    """

    one_size: ClassVar[bool] = True

    def __init__(self, model: ModelMixin, normalization: Normalization | None = None):
        super().__init__(model, normalization)
        cast(Any, model).noise_tau = 0.0

    def to_model(self, values: Tensor) -> Tensor:
        return values / 2 + 0.5

    def decode(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents.contiguous()).sample * 2 - 1  # turned ones are not

    def require_image_size(self, size: int, key: str) -> None:
        """Refuse all sides but one: what is encoded is resized, what is decoded has that side."""
        config = self.model.config
        own = config["encoder_input_size"] // config["encoder_patch_size"] * config["patch_size"]
        if size != own:
            raise ValueError(
                f"{key} {size}: this autoencoder makes images of {own} pixels of whatever it encodes: use {own}"
            )

    def encode_in_tiles(self, side: int) -> None:
        raise ValueError(f"tile_size {side}: {type(self.model).__name__} sees whole images alone: set it to null")

    def published_normalization(self) -> Normalization:
        return Normalization(method="inside the autoencoder")

    @property
    def unseen_entries(self) -> dict[str, Any]:
        """Its factor, too: it is no normalization, but part of the encoder."""
        factor = self.model.config["scaling_factor"]
        return super().unseen_entries | ({"scaling_factor": factor} if factor != 1 else {})

    def write_constants(self, normalization: Normalization) -> dict:
        """None: its config's factor takes part in encoding, and means another latent."""
        return {}

"""Autoencoders of videos, used on single images: a frame axis of length 1 is added and removed.

Most of them keep features of the frames before on the module while they run, so that two threads cannot share one, and
nothing of it can be compiled. Decoders of Qwen-Image and Wan clamp images to [-1, 1]: no gradient where they do.
"""

import threading
from typing import Any

from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from eqvae.autoencoders.base import Autoencoder
from eqvae.autoencoders.constants import LISTS, from_constants
from eqvae.autoencoders.encodings import PointPosterior
from eqvae.autoencoders.kl import KLAutoencoder
from eqvae.autoencoders.normalization import Normalization
from eqvae.autoencoders.points import PointAutoencoder

ONE_AT_A_TIME = threading.RLock()


class OneFrame(Autoencoder):
    """What all of them have in common."""

    def to_model(self, values: Tensor) -> Tensor:
        """[B, C, H, W] as a video [B, C, 1, H, W]."""
        return values.unsqueeze(2)

    def from_model(self, values: Tensor) -> Tensor:
        """The way back.

        Raises:
            ValueError: where one frame has become several.
        """
        if values.shape[2] != 1:
            raise ValueError(
                f"{type(self.model).__name__} makes {values.shape[2]} frames of one: it is none for images"
            )
        return values.squeeze(2)

    def decode(self, latents: Tensor) -> Tensor:
        with ONE_AT_A_TIME:
            return super().decode(latents)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        raise ValueError(
            f"{type(self.model).__name__} keeps state between frames and cannot be compiled: set compile to false"
        )


class FrameAutoencoder(OneFrame, KLAutoencoder):
    """With a Gaussian posterior: Qwen-Image, Wan, HunyuanVideo, CogVideoX, LTX, Mochi."""

    def encode(self, images: Tensor) -> DiagonalGaussianDistribution:
        with ONE_AT_A_TIME:
            posterior = self.model.encode(self.to_model(images)).latent_dist
        return DiagonalGaussianDistribution(self.from_model(posterior.parameters))


class PointFrameAutoencoder(OneFrame, PointAutoencoder):
    """Without spread: Cosmos."""

    def encode(self, images: Tensor) -> PointPosterior:
        with ONE_AT_A_TIME:
            latents = self.model.encode(self.to_model(images)).latent_dist.mode()
        return PointPosterior(self.from_model(latents))

    def published_normalization(self) -> Normalization | None:
        """Its lists have numbers for each of several latent frames, of which an image is the first."""
        config, channels = self.model.config, self.latent_channels
        lists = {name: config[name][:: len(config[name]) // channels or 1] for name in LISTS if config[name]}
        return from_constants(config | lists)

    def write_constants(self, normalization: Normalization) -> dict[str, Any]:
        """The same for all latent frames."""
        entries, mean = super().write_constants(normalization), self.model.config[LISTS[0]]
        frames = len(mean) // self.latent_channels if mean else 1
        return entries | {name: [value for value in entries[name] for _ in range(frames)] for name in LISTS}

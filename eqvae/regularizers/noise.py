"""Noise on latents before they are decoded, of a strength that each image draws for itself."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.ranges import require_choice
from eqvae.regularizers.base import Action, LatentRegularizer, StepKey
from eqvae.regularizers.measuring import channel_statistics, require_no_codebook


@dataclass(frozen=True)
class NoisyLatents(Action):
    """Decodes noisy latents; the target is the image itself."""

    key: StepKey
    name: str
    strength: float
    mix: Literal["interpolate", "add"]

    def on_latents(self, latents: Tensor) -> Tensor:
        mean, std = channel_statistics(latents)
        share = self.key.uniform(f"{self.name} share", (1, 1, 1))
        noise = share * self.strength * std * self.key.normal(self.name, tuple(latents.shape[1:]))
        if self.mix == "add":
            return latents + noise
        return latents - share * (latents - mean) + noise


class LatentNoise(LatentRegularizer):
    """Decodes ``(1 - tau) z + tau gamma e`` to x, with one tau ~ U(0, 1) for each image and normal noise e.

    Source: l-DeTok, arXiv 2507.15856. There noise has raw units, and latents escape it by growing; here z has mean 0
    and std 1 in each channel of the batch, and what is decoded has their own again.

    Args:
        strength: gamma; 3 in the paper. At 0 the latent still shrinks by 1 - tau.
        mix: "interpolate", or "add" for z + tau gamma e, which is worse in the paper.

    Raises:
        ValueError: for another mix; by `prepare`, of a VQ autoencoder.
    """

    name = "noise"

    def __init__(self, strength: float = 3.0, mix: Literal["interpolate", "add"] = "interpolate"):
        super().__init__()
        self.strength = strength
        require_choice(f"{self.name}: mix", mix, ("interpolate", "add"))
        self.mix: Literal["interpolate", "add"] = mix

    def prepare(self, autoencoder: Autoencoder) -> None:
        require_no_codebook(autoencoder, self.name, "the codebook would learn the noise")

    def draw(self, key: StepKey) -> NoisyLatents:
        return NoisyLatents(key, self.name, self.strength, self.mix)


class NoisyDecoding(LatentNoise):
    """Decodes ``z + sigma e`` to x, with one sigma ~ U(0, tau) for each image; the encoder is frozen.

    Latents stay bit for bit as they are, with all caches of them; the decoder learns to bear a generator's errors.
    Source: RAE, arXiv 2510.11690 and its code, where sigma has raw units; here those of each channel's std.

    Args:
        tau: largest sigma; 0.8 in the source. 0 is decoder-only training without noise.

    Raises:
        ValueError: by `prepare`, for a VQ autoencoder, or an encoder that trains.
    """

    name = "noisy_decoding"

    def __init__(self, tau: float = 0.8):
        super().__init__(tau, "add")

    def prepare(self, autoencoder: Autoencoder) -> None:
        super().prepare(autoencoder)
        if autoencoder.encoder_last_layer.requires_grad:
            raise ValueError("regularizers: noisy_decoding trains the decoder alone: set trainable to decoder")

"""What regularizers measure of latents, and what they require of an autoencoder."""

from typing import NamedTuple

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.losses.balance import mean_over_devices
from eqvae.precision import at_least_float32


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation of each channel, [1, C, 1, 1]."""

    mean: Tensor
    std: Tensor


@torch.no_grad()
def channel_statistics(latents: Tensor) -> ChannelStatistics:
    """Those of a batch of latents [B, C, h, w] of all devices, constants for gradients.

    Accumulated batches are measured one by one.
    """
    values = at_least_float32(latents)
    moments = torch.stack((values.mean((0, 2, 3)), values.square().mean((0, 2, 3))))
    mean, square = mean_over_devices(moments)[:, None, :, None, None]
    return ChannelStatistics(mean, (square - mean.square()).clamp_min(1e-12).sqrt())


def require_no_codebook(autoencoder: Autoencoder, name: str, why: str) -> None:
    """Refuse a VQ autoencoder.

    Raises:
        ValueError: saying why.
    """
    if autoencoder.num_codes:
        raise ValueError(f"regularizers: {name} is not for VQ autoencoders: {why}")


def require_trained_encoder(autoencoder: Autoencoder, name: str) -> None:
    """Refuse an encoder that does not train, on which alone the method acts.

    Raises:
        ValueError: naming the option.
    """
    if not autoencoder.encoder_last_layer.requires_grad:
        raise ValueError(f"regularizers: {name} trains the encoder: set trainable to all")

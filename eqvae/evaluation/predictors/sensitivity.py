"""What a decoder sees of each channel of its latents."""

import torch
from torch import Tensor

from eqvae.data.images import to_float
from eqvae.evaluation.predictors.base import LatentSample, known
from eqvae.randomness import keyed_normal
from eqvae.selection import evenly_spaced

NUM_IMAGES = 32


def channel_sensitivity(sample: LatentSample) -> Tensor:
    """Mean squared derivative [C] of the decoded images by each channel, as shares; random projections estimate it.

    Of at most 32 images, evenly spaced: the first ones of class folders are of one class.
    """
    images, gradients = known(sample.images), []
    images = images[evenly_spaced(NUM_IMAGES, len(images)).to(images.device)]
    numbers = torch.arange(len(images))
    for part, keys in zip(*(sample.in_parts(each, NUM_IMAGES) for each in (images, numbers)), strict=True):
        with torch.enable_grad():
            latents = known(sample.encode)(to_float(part)).detach().requires_grad_()
            decoded = known(sample.decode)(latents)
            direction = keyed_normal(keys, decoded.shape[1:], seed=0, stream="sensitivity")
            gradients.append(torch.autograd.grad(decoded, latents, direction.to(decoded))[0].cpu())
    squares = torch.cat(gradients).double().square().mean((0, 2, 3))
    return squares / squares.sum().clamp_min(1e-300)

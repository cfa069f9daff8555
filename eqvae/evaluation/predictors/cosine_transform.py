"""Power of latents by frequency, from orthonormal cosine transforms: no jump at the border counts as high frequency."""

import math
from functools import reduce

import torch
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample

COMMON_SIDE = 8  # frequencies below this index exist on every published grid


def cosine_basis(side: int) -> Tensor:
    """Orthonormal DCT-II, [frequency, position] float64."""
    frequency, position = torch.arange(side, dtype=torch.float64)[:, None], torch.arange(side) + 0.5
    basis = torch.cos(math.pi / side * frequency * position) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    return basis


def mean_power(latents: Tensor) -> Tensor:
    """Mean over images and channels of squared coefficients, [h, w] float64; its sum is that of mean squared pixels."""
    rows, columns = (cosine_basis(side).to(latents.dtype) for side in latents.shape[2:])
    parts = ((rows @ part @ columns.T).square().double().mean(1).sum(0) for part in latents.split(500))
    return reduce(torch.add, parts) / len(latents)


def noise_power(noise: Tensor) -> Tensor:
    """What independent noise of variance [C, h, w] adds to `mean_power` on average: exact, and nothing is drawn."""
    rows, columns = (cosine_basis(side).square() for side in noise.shape[1:])
    return rows @ noise.double().mean(0) @ columns.T


def sample_powers(sample: LatentSample) -> tuple[Tensor, Tensor]:
    """Power [h, w] of the posterior means, and of posterior samples."""

    def compute() -> tuple[Tensor, Tensor]:
        power = mean_power(sample.latents)
        return power, power if sample.noise is None else power + noise_power(sample.noise)

    return sample.once("powers", compute)

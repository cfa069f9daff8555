"""Local correlation of latents: neighbours should resemble each other up to a threshold."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from eqvae.autoencoders import Autoencoder, Term
from eqvae.precision import at_least_float32
from eqvae.processes import mean_over_processes
from eqvae.regularizers.base import Action, LatentRegularizer, Pass, StepKey
from eqvae.regularizers.measuring import channel_statistics, require_trained_encoder

NAME = "correlation"


def local_correlation(latents: Tensor) -> Tensor:
    """Mean correlation over channels of the six pairs in each 2 x 2 window of normalized latents [B, C, h, w], C > 1.

    Windows do not overlap, and a last odd row or column is in none; a scalar in [-1, 1], 1 where there is no window.
    """
    rows, columns = (side // 2 for side in latents.shape[-2:])
    centred = latents - latents.mean(1, keepdim=True)
    vectors = F.normalize(centred, dim=1, eps=1e-6)[..., : 2 * rows, : 2 * columns]
    if not vectors.numel():
        return latents.sum() * 0 + 1
    total = vectors.unflatten(-1, (columns, 2)).unflatten(-3, (rows, 2)).sum((-3, -1))  # [B, C, rows, columns]
    # |a + b + c + d|^2 = the four |.|^2, and each of the six products twice
    own = vectors.square().sum(1).mean() * 4
    return (total.square().sum(1).mean() - own) / 12


@dataclass(frozen=True)
class CorrelationBelow(Action):
    """Adds what the correlation lacks to the threshold."""

    threshold: float
    weight: float

    def terms(self, step: Pass) -> list[Term]:
        latents = at_least_float32(step.result.posterior.mean)
        mean, std = channel_statistics(latents)
        correlation = local_correlation((latents - mean) / std)
        # What the whole batch lacks: the mean over devices of each one's own lack would be more.
        is_below = mean_over_processes(correlation.detach()) < self.threshold
        missing = (self.threshold - correlation) * is_below
        return [Term(NAME, missing, self.weight, adaptive=True), Term("local_correlation", correlation.detach())]


class LocalCorrelation(LatentRegularizer):
    """LCR: ``relu(threshold - c)`` for the mean correlation c of latent pixels within 2 x 2 windows.

    Source: SSVAE, arXiv 2512.05394. It acts on posterior means, each channel normalized over the batch by statistics
    that are constants for gradients. Pixels are centred over channels: with few channels it is coarse.

    Args:
        threshold: theta; 0.75 in the paper.
        weight: times the adaptive weight; 0.02 x 0.1 in the paper.

    Raises:
        ValueError: by `prepare`, for latents of one channel, or an encoder that does not train.
    """

    name = NAME
    adaptive = True

    def __init__(self, threshold: float = 0.75, weight: float = 0.002):
        super().__init__()
        self.threshold, self.weight = threshold, weight

    def prepare(self, autoencoder: Autoencoder) -> None:
        require_trained_encoder(autoencoder, NAME)
        if autoencoder.posterior_channels == 1:
            raise ValueError(f"regularizers: {NAME} compares channels: latents of one channel have none to compare")

    def draw(self, key: StepKey) -> CorrelationBelow:
        return CorrelationBelow(self.threshold, self.weight)

"""Spectra of the covariance within classes, where there are far more dimensions than images of a class.

The covariance is taken as a Kronecker product, positions times channels, and fitted by maximum likelihood (flip-flop,
Dutilleul, 1999). Its eigenvalues are too few and too spread where images are few: only their ratio to those of white
noise of the same size tells spaces of different shapes apart.
"""

import warnings
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, known, white_noise
from eqvae.selection import evenly_spaced

ROUNDS = 5
LARGEST_SIDE = 16  # of the grid of positions; finer ones are folded into channels
POOLED_IMAGES = 1000


def fold(latents: Tensor) -> Tensor:
    """[N, C, h, w] to [N, C', positions]: blocks of 2 x 2 become channels until the grid is at most 16 x 16."""
    while max(latents.shape[-2:]) > LARGEST_SIDE and not any(side % 2 for side in latents.shape[-2:]):
        latents = F.pixel_unshuffle(latents, 2)
    return latents.flatten(2)


def kronecker_spectrum(centred: Tensor, variance: float) -> Tensor:
    """Eigenvalues [C S] of a Kronecker covariance of centred [N, C, S], scaled to a total variance."""
    centred = centred.double()
    channels, positions = centred.shape[1:]
    if variance <= 0:
        return torch.zeros(channels * positions, dtype=torch.float64)
    channel, spatial = (torch.eye(size, dtype=torch.float64) for size in (channels, positions))
    for _ in range(ROUNDS):
        rows = (centred @ _inverse_root(spatial)).transpose(0, 1).flatten(1)
        channel = rows @ rows.T / rows.shape[1]
        rows = (_inverse_root(channel) @ centred).flatten(0, 1)
        spatial = rows.T @ rows / len(rows)
    eigenvalues = torch.outer(*(torch.linalg.eigvalsh(part).clamp_min(0) for part in (channel, spatial))).flatten()
    return eigenvalues * (variance / eigenvalues.sum())


def _inverse_root(covariance: Tensor) -> Tensor:
    """The pseudo-inverse's symmetric root."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * 1e-10
    return vectors * torch.where(kept, values, 1).rsqrt().where(kept, 0) @ vectors.T


def variance_within(latents: Tensor) -> float:
    """Unbiased total variance of [N, C, S] around its mean."""
    return float(latents.double().var(0).sum())


def class_spectra(sample: LatentSample) -> list[tuple[int, Tensor]]:
    """(number of images, eigenvalues [C h w]) of each class; warns of classes of one image, which have none."""

    def compute() -> list[tuple[int, Tensor]]:
        latents, labels = fold(sample.latents), known(sample.labels)
        members = [latents[labels == label] for label in labels.unique()]
        kept = [rows for rows in members if len(rows) > 1]
        if not kept:
            raise ValueError("no class has two images: give more images of each class")
        if len(kept) < len(members):
            warnings.warn(f"{len(members) - len(kept)} classes of a single image are left out", stacklevel=2)
        return [(len(rows), kronecker_spectrum(rows - rows.mean(0), variance_within(rows))) for rows in kept]

    return sample.once("class spectra", compute)


def pooled_spectrum(sample: LatentSample) -> tuple[int, Tensor]:
    """How many images of one class would have as many degrees of freedom, and the covariance's spectrum of all classes.

    At most `POOLED_IMAGES` images count. Classes of a single one have no freedom, and are left out.
    """
    latents, labels = fold(sample.latents), known(sample.labels)
    present, places, counts = labels.unique(return_inverse=True, return_counts=True)
    several = (counts[places] > 1).nonzero()[:, 0]
    rows = several[evenly_spaced(POOLED_IMAGES, len(several))]
    parts = [(n, spectrum.sum()) for n, spectrum in class_spectra(sample)]
    variance = sum(n * total for n, total in parts) / sum(n for n, _ in parts)
    means = {int(label): latents[labels == label].mean(0) for label in present}
    centred = torch.stack([latents[row] - means[int(labels[row])] for row in rows])
    lost = float((1 / counts[places[rows]]).sum())  # a mean of n images takes 1 / n of each of them
    return round(len(rows) - lost) + 1, kronecker_spectrum(centred, float(variance))


@lru_cache(maxsize=64)
def white_spectrum(num_images: int, channels: int, height: int, width: int) -> Tensor:
    """What white noise of so many images and this shape is measured to have."""
    noise = fold(white_noise(num_images, channels, height, width))
    return kronecker_spectrum(noise - noise.mean(0), variance_within(noise))

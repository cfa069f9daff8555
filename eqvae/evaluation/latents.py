"""What a latent space is like: intrinsic dimension, effective rank, where its energy lies."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eqvae.evaluation.metric import Metric

DISCARDED_SHARE = 0.1  # of the largest distance ratios, in the fit
MINIMUM_DIFFERENT = 3  # latents, for a dimension of nearest neighbours
LARGEST_CHUNK = 2**24  # numbers that are subtracted at once: 128 MB


def intrinsic_dimension(points: Tensor | np.ndarray, method: Literal["twonn", "twonn_fit"] = "twonn") -> float:
    """TwoNN intrinsic dimension (Facco et al., 2017), from the ratio of each point's two nearest distances.

    Args:
        points: [N, ...], flattened to [N, D]; repeated points count once.
        method: "twonn" is the maximum-likelihood estimate N / sum log(r2 / r1); "twonn_fit" the line through the origin
            of -log(1 - F) against log(r2 / r1) with the largest tenth of ratios discarded.

    Raises:
        ValueError: for fewer than three different points.
    """
    if method not in ("twonn", "twonn_fit"):
        raise ValueError(f"method {method!r} is unknown: use twonn or twonn_fit")
    different: Tensor = torch.as_tensor(points).detach().cpu().flatten(1).double().unique(dim=0)
    if len(different) < MINIMUM_DIFFERENT:
        least = f"at least {MINIMUM_DIFFERENT} different points"
        raise ValueError(f"the intrinsic dimension needs {least}, got {len(different)}")
    nearest = nearest_distances(different, 2)
    log_ratio = (nearest[:, 1] / nearest[:, 0]).log()
    if method == "twonn":
        return float(len(log_ratio) / log_ratio.sum())
    kept = int(len(log_ratio) * (1 - DISCARDED_SHARE))
    x = log_ratio.sort().values[:kept]
    y = -torch.log1p(-torch.arange(1, kept + 1, dtype=torch.float64) / len(log_ratio))
    return float((x * y).sum() / x.square().sum())


def nearest_distances(points: Tensor, count: int) -> Tensor:
    """Distances from each point [N, D] to its `count` nearest others, the nearest first, [N, count] float64."""
    points = points.double()
    rows = min(1024, max(1, LARGEST_CHUNK // ((count + 1) * points.shape[1])))
    return torch.cat([_nearest(chunk, points, count) for chunk in points.split(rows)])


def _nearest(chunk: Tensor, points: Tensor, count: int) -> Tensor:
    """Distances [n, count] of some of the points; the nearest of all is the point itself."""
    # Matrix products find the neighbours; their distances are taken again without cancellation.
    neighbours = torch.cdist(chunk, points).topk(count + 1, largest=False).indices
    return (chunk[:, None] - points[neighbours]).norm(dim=-1).sort(dim=1).values[:, 1:]


def effective_rank(latents: Tensor, of: Literal["channels", "latents"] = "channels") -> float:
    """exp of the entropy of the PCA spectrum (Roy and Vetterli, 2007): how many directions carry the variance.

    Args:
        latents: [N, C, h, w].
        of: "channels" takes the vectors [C] of all positions (1 ... C), "latents" whole latents [C h w]
            (1 ... min(N - 1, C h w)).
    """
    return spectrum_to_effective_rank(latents_to_spectrum(latents, of))


def latents_to_spectrum(latents: Tensor, of: Literal["channels", "latents"] = "channels") -> Tensor:
    """Eigenvalues of the scatter of what `effective_rank` takes, ascending, float64 [min(vectors, their length)]."""
    assert of in ("channels", "latents"), of
    vectors = latents.movedim(1, -1).flatten(0, -2) if of == "channels" else latents.flatten(1)
    vectors = vectors.detach().cpu().double()
    vectors = vectors - vectors.mean(0)
    wide = vectors.shape[0] < vectors.shape[1]
    return torch.linalg.eigvalsh(vectors @ vectors.T if wide else vectors.T @ vectors).clamp_min(0)


def spectrum_to_effective_rank(spectrum: Tensor) -> float:
    """exp of the entropy of eigenvalues as shares of their sum."""
    return float(torch.special.entr(spectrum / spectrum.sum().clamp_min(1e-300)).sum().exp())


def high_frequency_share(latents: Tensor) -> float:
    """Share of the 2-D spectrum's energy above half the Nyquist frequency along either axis, in [0, 1].

    Args:
        latents: [N, C, h, w]; each channel is normalized to mean 0 and std 1 over all latents.
    """
    energy = _normalized_energy(latents)
    vertical, horizontal = _frequencies(energy)
    high = torch.maximum(vertical, horizontal) > 0.25
    return float(energy[high].sum() / energy.sum())


def radial_power_spectrum(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean power of channel-normalized latents [N, C, h, w] by radial frequency; white noise gives 1 everywhere.

    Returns:
        Frequencies in cycles per latent pixel, up to Nyquist (0.5), and power in each ring, both [min(h, w) // 2 + 1].
    """
    energy = _normalized_energy(latents)
    vertical, horizontal = _frequencies(energy)
    side = min(energy.shape)
    ring = (torch.hypot(*torch.broadcast_tensors(vertical, horizontal)) * side).round().long().flatten()
    num_rings = side // 2 + 1  # the corners beyond Nyquist are left out
    inside = ring < num_rings
    count = torch.bincount(ring[inside], minlength=num_rings)
    power = torch.bincount(ring[inside], energy.flatten()[inside], minlength=num_rings) / count
    return torch.arange(num_rings, dtype=torch.float64) / side, power


def _normalized_energy(latents: Tensor) -> Tensor:
    """Mean squared magnitude of the orthonormal 2-D transform, [h, w] float64."""
    latents = latents.detach().cpu().double()
    centred = latents - latents.mean((0, 2, 3), keepdim=True)
    normalized = centred / centred.std((0, 2, 3), keepdim=True).clamp_min(1e-12)
    return torch.fft.fft2(normalized, norm="ortho").abs().square().mean((0, 1))


def _frequencies(energy: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitudes of vertical [h, 1] and horizontal [1, w] frequency, in cycles per pixel."""
    vertical, horizontal = (torch.fft.fftfreq(side, dtype=torch.float64).abs() for side in energy.shape)
    return vertical[:, None], horizontal[None, :]


LATENT_METRICS = (
    Metric(
        "intrinsic_dimension",
        "Intrinsic dimension (TwoNN)",
        needs=("different_latents",),
        compute=intrinsic_dimension,
        definition="TwoNN estimate of the dimension of latents, maximum likelihood (Facco et al., 2017)",
    ),
    Metric(
        "effective_rank",
        "Effective rank",
        compute=lambda latents: effective_rank(latents, of="latents"),
        definition="exponential of the entropy of the PCA spectrum of whole latents (Roy and Vetterli, 2007)",
    ),
    Metric(
        "high_frequency_share",
        "High-frequency share",
        compute=high_frequency_share,
        definition="share of the latents' spectral energy above half the Nyquist frequency",
    ),
    Metric(
        "equivariance/*",
        "Equivariance error",
        "lower",
        needs=("model",),
        definition="`latent`: mean of |T E(x) - E(T x)|² / |E(T x)|²; `decoded`: mean of |D(T E(x)) - T x|² / |T x|²; "
        "for encoder E, decoder D and the transform T that the name says",
    ),
)
"""Of latents [N, C, h, w], where they have what is needed and a metric has a formula of its own."""

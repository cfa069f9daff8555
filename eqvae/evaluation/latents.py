"""What a latent space is like: intrinsic dimension, effective rank, where its energy lies."""

from typing import Literal

import torch
from torch import Tensor

DISCARDED_SHARE = 0.1  # of the largest distance ratios, in the fit


def intrinsic_dimension(points: Tensor, method: Literal["twonn", "twonn_fit"] = "twonn") -> float:
    """TwoNN intrinsic dimension (Facco et al., 2017), from the ratio of each point's two nearest distances.

    Args:
        points: [N, D], N >= 3; duplicates (distance 0) are left out.
        method: "twonn" is the maximum-likelihood estimate N / sum log(r2 / r1); "twonn_fit" the line through the origin
            of -log(1 - F) against log(r2 / r1) with the largest tenth of ratios discarded.
    """
    points = torch.as_tensor(points).flatten(1).double()
    if len(points) < 3:
        raise ValueError(f"the intrinsic dimension needs at least 3 points, got {len(points)}")
    nearest = torch.cat([_two_nearest(chunk, points) for chunk in points.split(1024)])
    nearest = nearest[nearest[:, 0] > 0]
    log_ratio = (nearest[:, 1] / nearest[:, 0]).log()
    if method == "twonn":
        return float(len(log_ratio) / log_ratio.sum())
    if method != "twonn_fit":
        raise ValueError(f"method {method!r} is unknown: use twonn or twonn_fit")
    log_ratio = log_ratio.sort().values
    distribution = torch.arange(1, len(log_ratio) + 1, dtype=torch.float64) / len(log_ratio)
    kept = int(len(log_ratio) * (1 - DISCARDED_SHARE))
    x, y = log_ratio[:kept], -torch.log1p(-distribution[:kept])
    return float((x * y).sum() / x.square().sum())


def _two_nearest(chunk: Tensor, points: Tensor) -> Tensor:
    """Distances to the two nearest other points, [n, 2]."""
    return torch.cdist(chunk, points, compute_mode="donot_use_mm_for_euclid_dist").topk(3, largest=False).values[:, 1:]


def effective_rank(latents: Tensor) -> float:
    """exp of the entropy of the PCA spectrum of whole latents [N, C, h, w] (Roy and Vetterli, 2007)."""
    flat = latents.flatten(1).double()
    spectrum = torch.linalg.svdvals(flat - flat.mean(0)).square()
    share = spectrum / spectrum.sum()
    return float(torch.exp(-(share * share.clamp_min(1e-30).log()).sum()))


def high_frequency_share(latents: Tensor) -> float:
    """Share of the 2-D spectrum's energy above half the Nyquist frequency, channels normalized; 0 is smooth."""
    normalized = latents.double() - latents.double().mean((0, 2, 3), keepdim=True)
    normalized = normalized / normalized.std((0, 2, 3), keepdim=True).clamp_min(1e-12)
    energy = torch.fft.fft2(normalized).abs().square().mean((0, 1))
    vertical, horizontal = (torch.fft.fftfreq(side, dtype=torch.float64) for side in energy.shape)
    high = torch.maximum(vertical.abs()[:, None], horizontal.abs()[None, :]) > 0.25
    return float(energy[high].sum() / energy.sum())

"""SEC, the share of energy at high spatial frequencies."""

import torch
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor
from eqvae.evaluation.predictors.cosine_transform import COMMON_SIDE, sample_powers


def _is_high(height: int, width: int, cutoff: float) -> Tensor:
    return torch.arange(height)[:, None] + torch.arange(width) > cutoff * (height + width - 2)


def share_above(power: Tensor, cutoff: float) -> float:
    """Share of power [h, w] at u + v > cutoff (h + w - 2); the constant counts in the whole."""
    height, width = power.shape
    return float(power[_is_high(height, width, cutoff)].sum() / power.sum())


def white_share(height: int, width: int, cutoff: float) -> float:
    """What white noise has: the share of coefficients, which depends on the grid (0.844 on 8 x 8, 0.859 on 16 x 16)."""
    return float(_is_high(height, width, cutoff).double().mean())


def compute(sample: LatentSample) -> dict[str, float]:
    """Shares of white noise's are comparable between grids, as far as the grid's own frequencies go.

    `common_band` counts only the lowest 8 x 8 coefficients, the same cycles per image on every grid that has them.
    `of_samples` adds the posterior's noise.
    """
    means, samples = sample_powers(sample)
    half, quarter = (share_above(means, cutoff) for cutoff in (0.5, 0.25))
    height, width = means.shape
    return {
        "half_of_white": half / white_share(height, width, 0.5),
        "quarter_of_white": quarter / white_share(height, width, 0.25),
        "half": half,
        "quarter": quarter,
        "common_band": share_above(means[:COMMON_SIDE, :COMMON_SIDE], 0.5),
        "half_of_samples": share_above(samples, 0.5),
    }


HIGH_FREQUENCY = Predictor(
    name="high_frequency",
    label="high-frequency share",
    source="arXiv 2606.03578; arXiv 2502.14831",
    quantities=dict.fromkeys(
        ("half_of_white", "quarter_of_white", "half", "quarter", "common_band", "half_of_samples"), "lower"
    ),
    compute=compute,
    min_side=2,
    invariances=("order", "signs", "rotation", "turn", "scale"),
)

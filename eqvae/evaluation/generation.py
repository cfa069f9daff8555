"""How close generated pictures are to real ones: all distances between two sets of features at once."""

import numpy as np
from torch import Tensor

from eqvae.evaluation.distances import (
    features_to_statistics,
    kernel_distance,
    precision_recall,
    statistics_to_frechet_distance,
)
from eqvae.evaluation.features import METRIC_NAMES


def features_to_generation_metrics(
    real: Tensor, generated: Tensor, extractor: str, statistics: dict[str, np.ndarray] | None = None
) -> dict[str, float]:
    """Fréchet distance (named after the extractor), `kid`, `precision`, `recall` of features [N, D] and [M, D].

    Args:
        extractor: that made the features.
        statistics: of the real features, where they were kept.
    """
    precision, recall = precision_recall(real, generated)
    statistics = statistics or features_to_statistics(real)
    return {
        METRIC_NAMES[extractor]: statistics_to_frechet_distance(statistics, features_to_statistics(generated)),
        "kid": kernel_distance(real, generated),
        "precision": precision,
        "recall": recall,
    }

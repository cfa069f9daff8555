"""How close generated pictures are to real ones: all distances between two sets at once."""

import numpy as np
from torch import Tensor

from eqvae.evaluation.distances import (
    features_to_statistics,
    inception_score,
    kernel_distance,
    precision_recall,
    statistics_to_frechet_distance,
)
from eqvae.evaluation.feature_sets import FeatureSet
from eqvae.evaluation.features import METRIC_NAMES, SCORE_NAMES


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


def feature_sets_to_generation_metrics(real: FeatureSet, generated: FeatureSet, extractor: str) -> dict[str, float]:
    """All that two sets tell: Fréchet distance on pooled and (name prefixed with s) on spatial features, Inception
    score of the generated set, kernel distance, precision and recall.

    Where the reference is statistics alone, what needs its pictures is left out.

    Args:
        extractor: that made both sets.

    Raises:
        ValueError: for sets of different extractors, or too few pictures.
    """
    name, score = METRIC_NAMES[extractor], SCORE_NAMES[extractor]
    if real.pooled["mu"].shape != generated.pooled["mu"].shape:
        widths = [len(each.pooled["mu"]) for each in (real, generated)]
        raise ValueError(f"the reference has {widths[0]} features, extractor {extractor} gives {widths[1]}")
    report = {name: statistics_to_frechet_distance(real.pooled, generated.pooled)}
    if real.spatial is not None:
        if real.spatial["mu"].shape != generated.spatial["mu"].shape:
            raise ValueError("spatial features do not match: were both sets of the same size?")
        report[f"s{name}"] = statistics_to_frechet_distance(real.spatial, generated.spatial)
    report[score], report[f"{score}_std"] = inception_score(generated.logits)
    if real.features is not None:
        report["kid"], report["kid_std"] = kernel_distance(real.features, generated.features, return_std=True)
        report["precision"], report["recall"] = precision_recall(real.features, generated.features)
    return report

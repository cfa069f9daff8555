"""How close generated pictures are to real ones: all distances between two sets at once."""

from collections.abc import Collection
from typing import Literal

from eqvae.evaluation.distances import (
    inception_score,
    kernel_distance,
    precision_recall,
    statistics_to_frechet_distance,
)
from eqvae.evaluation.feature_sets import FeatureSet
from eqvae.evaluation.features import METRIC_NAMES, SCORE_NAMES

METRICS = ("fd", "sfd", "score", "kid", "precision_recall")
"""Names of what can be measured; "precision_recall" is both of them."""


def feature_sets_to_generation_metrics(
    real: FeatureSet,
    generated: FeatureSet,
    extractor: str,
    metrics: Collection[str] = METRICS,
    score_order: Literal["given", "shuffled"] = "given",
) -> dict[str, float]:
    """What two sets tell: Fréchet distance on pooled and (name prefixed with s) on spatial features, Inception score of
    the generated set, kernel distance, precision and recall.

    Where the reference is statistics alone, what needs its pictures is left out.

    Args:
        extractor: that made both sets.
        metrics: names of METRICS.
        score_order: of the images for the Inception score, see `inception_score`.

    Raises:
        ValueError: for sets of different extractors, or too few pictures.
    """
    name, score = METRIC_NAMES[extractor], SCORE_NAMES[extractor]
    if real.pooled["mu"].shape != generated.pooled["mu"].shape:
        widths = [len(each.pooled["mu"]) for each in (real, generated)]
        raise ValueError(f"the reference has {widths[0]} features, extractor {extractor} gives {widths[1]}")
    report = {}
    if "fd" in metrics:
        report[name] = statistics_to_frechet_distance(real.pooled, generated.pooled)
    if "sfd" in metrics and real.spatial is not None:
        if real.spatial["mu"].shape != generated.spatial["mu"].shape:
            raise ValueError("spatial features do not match: were both sets of the same size?")
        report[f"s{name}"] = statistics_to_frechet_distance(real.spatial, generated.spatial)
    if "score" in metrics:
        report[score], report[f"{score}_std"] = inception_score(generated.logits, order=score_order)
    if "kid" in metrics and real.features is not None:
        report["kid"], report["kid_std"] = kernel_distance(real.features, generated.features, return_std=True)
    if "precision_recall" in metrics and real.features is not None:
        report["precision"], report["recall"] = precision_recall(real.features, generated.features)
    return report

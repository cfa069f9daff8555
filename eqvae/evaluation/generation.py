"""How close generated images are to real ones: all distances between two sets at once."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from eqvae.evaluation.distances import (
    inception_score,
    kernel_distance,
    precision_recall,
    statistics_to_frechet_distance,
)
from eqvae.evaluation.feature_sets import FeatureSet
from eqvae.evaluation.metric import EXTRACTORS, ExtractorMetrics, Metric
from eqvae.evaluation.subsets import extrapolated_distance

ScoreOrder = Literal["given", "shuffled"]
SCORE = "Inception score of the generated images on the classes of {}: mean and deviation over 10 splits"
KERNEL_DISTANCE = "kernel distance of pooled features, third-degree polynomial, over 100 subsets of at most 1000"
PRECISION = "share of generated images that lie within the 3-nearest-neighbour manifold of the real ones"
RECALL = "share of real images that lie within the 3-nearest-neighbour manifold of the generated ones"
Value = float | tuple[float, float]
"""Of a quantity; with its spread where it has one."""


@dataclass(frozen=True)
class GenerationMetric:
    """One measurement of a generated set against a real one.

    Args:
        name: in a sweep's `metrics`.
        quantities: what it gives, under the names that metrics on an extractor's features have.
        compute: their values, from the real and the generated set and the order of images for the Inception score.
        needs: parts of the real `FeatureSet` that statistics of another's making may lack.
        output: of the extractor, on which it is computed.
    """

    name: str
    quantities: Callable[[ExtractorMetrics], tuple[Metric, ...]]
    compute: Callable[[FeatureSet, FeatureSet, ScoreOrder], tuple[Value, ...]]
    needs: tuple[str, ...] = ()
    output: str = "pooled"


def _spatial_distance(real: FeatureSet, generated: FeatureSet) -> float:
    assert real.spatial is not None, "asked for in needs"
    assert generated.spatial is not None, "computed of all images"
    if real.spatial["mu"].shape != generated.spatial["mu"].shape:
        raise ValueError("spatial features do not match: were both sets of the same size?")
    return statistics_to_frechet_distance(real.spatial, generated.spatial)


def _rows(known: Tensor | None) -> Tensor:
    """Rows that a set has, since they are named in a metric's needs, or since it is of generated images."""
    assert known is not None
    return known


GENERATION_METRICS: dict[str, GenerationMetric] = {
    metric.name: metric
    for metric in (
        GenerationMetric(
            "fd",
            lambda names: (names.distance_metric(),),
            lambda real, generated, order: (statistics_to_frechet_distance(real.pooled, generated.pooled),),
        ),
        GenerationMetric(
            "fd_inf",
            lambda names: (names.extrapolated_metric(),),
            lambda real, generated, order: (extrapolated_distance(real.pooled, _rows(generated.features)),),
        ),
        GenerationMetric(
            "sfd",
            lambda names: (names.distance_metric("s", "Spatial"),),
            lambda real, generated, order: (_spatial_distance(real, generated),),
            needs=("spatial",),
            output="spatial",
        ),
        GenerationMetric(
            "score",
            lambda names: (Metric(names.score, names.score_label, "higher", definition=SCORE.format(names.network)),),
            lambda real, generated, order: (inception_score(_rows(generated.logits), order=order),),
            output="logits",
        ),
        GenerationMetric(
            "kid",
            lambda names: (Metric("kid", "KID", "lower", "Kernel distance", definition=KERNEL_DISTANCE),),
            lambda real, generated, order: (
                kernel_distance(_rows(real.features), _rows(generated.features), return_std=True),
            ),
            needs=("features",),
        ),
        GenerationMetric(
            "precision_recall",
            lambda names: (
                Metric("precision", "Precision", "higher", definition=PRECISION),
                Metric("recall", "Recall", "higher", definition=RECALL),
            ),
            lambda real, generated, order: precision_recall(_rows(real.features), _rows(generated.features)),
            needs=("features",),
        ),
    )
}
"""All that can be measured, by name."""

USUAL_METRICS = ("fd", "sfd", "score", "kid", "precision_recall")
"""Those of published tables, which are measured where nothing else is asked for."""


def measurable(extractor: str) -> list[str]:
    """Names of the metrics that can be computed on what an extractor gives."""
    outputs = EXTRACTORS[extractor].outputs
    return [name for name, metric in GENERATION_METRICS.items() if metric.output in outputs]


def require_metrics(names: Collection[str], extractor: str) -> None:
    """Refuse what cannot be measured of samples.

    Raises:
        ValueError: naming the first one that is unknown, or that the extractor gives nothing for.
    """
    known = measurable(extractor)
    for name in names:
        if name not in known:
            problem = f"is not measured on {extractor}" if name in GENERATION_METRICS else "is unknown"
            raise ValueError(f"metric {name!r} {problem}: use some of {', '.join(known)}")


def require_parts(names: Collection[str], real: FeatureSet, where: str) -> None:
    """Refuse metrics that need what a reference of stored statistics lacks.

    Args:
        where: the reference, in the error.

    Raises:
        ValueError: naming the first one.
    """
    for name in names:
        missing = [need for need in GENERATION_METRICS[name].needs if getattr(real, need) is None]
        if missing:
            lacks = {"features": "no images", "spatial": "no statistics of spatial features (mu_s, sigma_s)"}
            raise ValueError(f"metric {name!r} cannot be measured: {where} holds {lacks[missing[0]]}, leave it out")


def feature_sets_to_generation_metrics(
    real: FeatureSet,
    generated: FeatureSet,
    extractor: str,
    metrics: Collection[str] | None = None,
    score_order: ScoreOrder = "given",
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """What two sets tell: distances, score, precision and recall.

    Fréchet distance on pooled and (name prefixed with s) on spatial features, Inception score of the generated set,
    kernel distance, precision and recall; where asked for, the Fréchet distance of infinitely many samples.

    Where the reference is statistics alone, what needs its images is left out.

    Args:
        extractor: that made both sets.
        metrics: names of `GENERATION_METRICS`; None: those of `USUAL_METRICS` that the extractor gives.
        score_order: of the images for the Inception score, see `inception_score`.
        device: for precision and recall; the numbers do not depend on it.

    Raises:
        ValueError: for a metric that the extractor does not give, sets of different extractors, or too few images.
    """
    if metrics is None:
        metrics = set(USUAL_METRICS) & set(measurable(extractor))
    require_metrics(metrics, extractor)
    if real.pooled["mu"].shape != generated.pooled["mu"].shape:
        widths = [len(each.pooled["mu"]) for each in (real, generated)]
        raise ValueError(f"the reference has {widths[0]} features, extractor {extractor} gives {widths[1]}")
    real, generated = (_on(each, device) for each in (real, generated))
    report = {}
    for name, metric in GENERATION_METRICS.items():
        if name in metrics and all(getattr(real, need) is not None for need in metric.needs):
            quantities = metric.quantities(EXTRACTORS[extractor])
            for quantity, value in zip(quantities, metric.compute(real, generated, score_order), strict=True):
                report |= _named(quantity.name, value)
    return report


def _on(feature_set: FeatureSet, device: torch.device | str) -> FeatureSet:
    """A set whose features, if it has them, lie on a device."""
    return replace(feature_set, features=None if feature_set.features is None else feature_set.features.to(device))


def _named(name: str, value: Value) -> dict[str, float]:
    """A value under its name, its spread under `NAME_std`."""
    return dict(zip((name, f"{name}_std"), value, strict=True)) if isinstance(value, tuple) else {name: value}

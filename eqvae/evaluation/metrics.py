"""The table of all metrics: tables, reports, sweeps and commands read names, labels and directions from here.

A metric stands beside what computes it: of pairs of images in `reconstruction`, of latents in `latents`, of two sets of
images in `generation`, and each predictor in its own file.
"""

from collections.abc import Iterable

from eqvae.evaluation.generation import GENERATION_METRICS
from eqvae.evaluation.latents import LATENT_METRICS
from eqvae.evaluation.metric import EXTRACTORS, Metric
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.evaluation.reconstruction import RECONSTRUCTION_METRICS

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *RECONSTRUCTION_METRICS,
        *LATENT_METRICS,
        *(
            metric
            for each in GENERATION_METRICS.values()
            for names in EXTRACTORS.values()
            if each.output in names.outputs
            for metric in each.quantities(names)
        ),
        *(metric for predictor in PREDICTORS.values() for metric in predictor.metrics()),
    )
}
"""By name, in the order in which tables show them."""


def find_metric(name: str) -> Metric:
    """The metric of a name in a result, by its own name or by that of its kind.

    One that says nothing where neither is known, and for a spread over images or subsets.
    """
    if name in METRICS:
        return METRICS[name]
    kinds = (metric for metric in METRICS.values() if metric.name.endswith("*") and not name.endswith("_std"))
    return next((kind for kind in kinds if name.startswith(kind.name[:-1])), Metric(name, name))


def in_order(rows: Iterable[Iterable[str]]) -> list[str]:
    """Names in any of the rows, in the order of the table, then those it does not know."""
    names, order = dict.fromkeys(name for row in rows for name in row), list(METRICS)
    places = {name: order.index(kind) for name in names if (kind := find_metric(name).name) in METRICS}
    return sorted(names, key=lambda name: places.get(name, len(order)))

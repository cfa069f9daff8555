"""The whole measurement of samples: generated and real images in, a report out, as `evaluate.py generation` prints."""

import os
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqvae.data.given import Images, describe_given, to_source
from eqvae.evaluation.distances import SCORE_ORDERS, inception_score
from eqvae.evaluation.feature_sets import FeatureSet, images_to_feature_set
from eqvae.evaluation.features import create_extractor
from eqvae.evaluation.generation import ScoreOrder, feature_sets_to_generation_metrics, require_metrics, require_parts
from eqvae.evaluation.inputs import AS_STORED, image_batches, open_samples, reference_to_feature_set
from eqvae.evaluation.metric import EXTRACTORS
from eqvae.evaluation.tables import CENTER_CROP, backend_versions
from eqvae.files import sha256_of_file
from eqvae.selection import describe_selection

SORTED = 1.2  # times as large a score of samples in another order: they lie class by class


def measure_generation(
    generated: Images,
    reference: Images,
    image_size: int | None = None,
    *,
    num_images: int | None = None,
    metrics: Collection[str] | None = None,
    extractor: str = "efficientnet_lite0",
    extractor_weights: str | None = None,
    device: str | None = None,
    score_order: ScoreOrder = "given",
    statistics_cache: Path | None = None,
    num_workers: int = 0,
) -> dict[str, Any]:
    """How samples compare with real images: Fréchet and kernel distances, Inception score, precision and recall.

    Args:
        generated: images such as `dit.sample` gives, or what `open_samples` takes: an .npz, the folder of `sample.py`.
        reference: real images: a word of `open_source`, an .npz of statistics, a source, or images.
        image_size: side of images that are named; None: that of the samples.
        num_images: measure only so many samples, evenly spaced; None: all.
        metrics: what is measured, names of `eqvae.evaluation.generation.GENERATION_METRICS`; None: the usual ones.
        extractor, extractor_weights: as of `create_extractor`.
        device: that measures; None: a GPU where there is one.
        score_order: of the samples for the Inception score, see `inception_score`.
        statistics_cache: folder of reference statistics, see `reference_to_feature_set`.
        num_workers: processes that decode images.

    Raises:
        ValueError: for images that cannot be had or are too few, or a reference that does not fit the extractor.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    require_metrics(metrics or (), extractor)
    if isinstance(generated, str):
        source, uint8_rule = open_samples(generated, image_size)
    else:
        source, uint8_rule = to_source(generated, image_size or 0), AS_STORED
    height, size = source[0][0].shape[-2:]
    if isinstance(reference, str):
        if height != size:
            raise ValueError(f"samples of {height} x {size} pixels: a named reference is square, give it as images")
        settings = (extractor, extractor_weights, device)
        real, about = reference_to_feature_set(
            reference, size, *settings, num_workers=num_workers, cache=statistics_cache
        )
    else:
        real, about = _measured(reference, (height, size), extractor, extractor_weights, device)
    if (
        isinstance(generated, str)
        and isinstance(reference, str)
        and os.path.realpath(generated) == os.path.realpath(reference)
    ):
        warnings.warn(f"samples and reference are both {generated}: it is measured against itself", stacklevel=2)
    require_parts(metrics or (), real, describe_given(reference))
    network = create_extractor(extractor, extractor_weights, device)
    features = images_to_feature_set(image_batches(source, num_images, num_workers), network)
    measured = feature_sets_to_generation_metrics(real, features, extractor, metrics, score_order, device)
    if score_order == "given" and EXTRACTORS[extractor].score in measured:
        _warn_of_sorted(features.logits)
    of_file = {"extractor_weights": sha256_of_file(Path(extractor_weights))} if extractor_weights else {}
    return measured | {
        "num_reference": real.num_images,
        "num_generated": features.num_images,
        "features_reference": real.kept,
        "features_generated": features.kept,
        "score_order": score_order,
        "images": describe_selection(num_images, len(source)),
        "image_size": size,
        "crop": CENTER_CROP,
        "uint8_rule": uint8_rule,
        "extractor": extractor,
        **of_file,
        "generated": describe_given(generated),
        "reference": {"data": describe_given(reference)} | about,
        "versions": backend_versions(),
    }


def _warn_of_sorted(logits: Tensor | None) -> None:
    """Warn of samples that lie class by class, as in class folders: a tenth of them has a tenth of the classes."""
    assert logits is not None, "computed of all images"
    (given, spread), (shuffled, other) = (inception_score(logits, order=order) for order in SCORE_ORDERS)
    if shuffled > SORTED * given and shuffled - given > spread + other:
        warnings.warn(
            f"the samples seem to be sorted by class, so their Inception score is {given:.3g} in the order given, "
            f"{shuffled:.3g} shuffled: measure with --score-order shuffled",
            stacklevel=3,
        )


def _measured(
    reference: Images, size: tuple[int, int], extractor: str, weights: str | None, device: str
) -> tuple[FeatureSet, dict[str, Any]]:
    """Features of images in memory, which are kept nowhere, and what `reference_to_feature_set` says of them.

    Raises:
        ValueError: for images of another size than the samples': features would tell of that.
    """
    source = to_source(reference, size[1])
    if (given := tuple(source[0][0].shape[-2:])) != size:
        sizes = " and ".join(f"{height} x {width}" for height, width in (given, size))
        raise ValueError(f"reference and samples have {sizes} pixels: give images of one size")
    feature_set = images_to_feature_set(image_batches(source), create_extractor(extractor, weights, device))
    about = {"fingerprint": source.fingerprint(), "images": describe_selection(None, len(source))}
    return feature_set, {"statistics": "computed", "cached": False} | about

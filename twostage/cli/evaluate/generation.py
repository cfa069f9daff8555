"""`generation`: how samples of a generator compare with real images."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from eqvae.evaluation import create_extractor
from eqvae.evaluation.distances import SCORE_ORDERS
from eqvae.evaluation.feature_sets import images_to_feature_set
from eqvae.evaluation.generation import feature_sets_to_generation_metrics
from eqvae.evaluation.inputs import image_batches, open_samples, reference_to_feature_set
from eqvae.evaluation.tables import (
    CENTER_CROP,
    backend_versions,
    comparison_table,
    load_result,
    result_table,
    warn_of_different_conditions,
)
from eqvae.selection import describe_selection
from twostage.cli.evaluate.options import add_command, add_extractor


def add_to(commands: Any) -> None:
    sub = add_command(commands, "generation", "FID (FD), sFID, Inception score, KID, precision and recall of samples")
    sub.add_argument("--generated", required=True, help="samples: .npz, folder, parquet glob, sample.py's output")
    sub.add_argument("--reference", required=True, help="real images: the same, shapes:COUNT[:SEED], or an "
                     ".npz of statistics")  # fmt: skip
    sub.add_argument("--image-size", type=int, help="side after the centre crop (default: that of the samples)")
    sub.add_argument("--statistics-cache", type=Path, help="folder of reference statistics, kept once computed "
                     "(default: eqvae/statistics in the user's cache folder)")  # fmt: skip
    sub.add_argument("--score-order", choices=SCORE_ORDERS, default="given", help="order of the samples when the "
                     "Inception score splits them: as they are, as ADM's evaluation does, or shuffled, as "
                     "torch-fidelity (default given)")  # fmt: skip
    sub.add_argument("--compare-with", help="saved result of --output to set beside this one")
    add_extractor(sub, several=False)
    sub.set_defaults(run=_measure)


def _measure(arguments: argparse.Namespace) -> dict:
    source, uint8_rule = open_samples(arguments.generated, arguments.image_size)
    size, device, name = source[0][0].shape[-1], arguments.device, arguments.extractor
    earlier = load_result(arguments.compare_with) if arguments.compare_with else None
    real, about = reference_to_feature_set(
        arguments.reference,
        size,
        name,
        arguments.extractor_weights,
        device,
        num_workers=arguments.num_workers,
        cache=arguments.statistics_cache,
    )
    extractor = create_extractor(name, arguments.extractor_weights, device)
    generated = images_to_feature_set(image_batches(source, arguments.num_images, arguments.num_workers), extractor)
    report = feature_sets_to_generation_metrics(real, generated, name, score_order=arguments.score_order) | {
        "num_reference": real.num_images,
        "num_generated": generated.num_images,
        "features_reference": real.kept,
        "features_generated": generated.kept,
        "score_order": arguments.score_order,
        "images": describe_selection(arguments.num_images, len(source)),
        "image_size": size,
        "crop": CENTER_CROP,
        "uint8_rule": uint8_rule,
        "extractor": name,
        "generated": arguments.generated,
        "reference": {"images": arguments.reference} | about,
        "versions": backend_versions(),
    }
    if earlier is None:
        Console().print(result_table(report))
    else:
        warn_of_different_conditions(earlier, report)
        Console().print(comparison_table(earlier, report, headings=(arguments.compare_with, "this")))
    return report

"""`generation`: how samples of a generator compare with real images."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from eqvae.evaluation.distances import SCORE_ORDERS
from eqvae.evaluation.measuring_samples import measure_generation
from eqvae.evaluation.tables import comparison_table, load_result, result_table, warn_of_different_conditions
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
    earlier = load_result(arguments.compare_with) if arguments.compare_with else None
    report = measure_generation(
        arguments.generated,
        arguments.reference,
        arguments.image_size,
        num_images=arguments.num_images,
        extractor=arguments.extractor,
        extractor_weights=arguments.extractor_weights,
        device=arguments.device,
        score_order=arguments.score_order,
        statistics_cache=arguments.statistics_cache,
        num_workers=arguments.num_workers,
    )
    if earlier is None:
        Console().print(result_table(report))
    else:
        warn_of_different_conditions(earlier, report)
        Console().print(comparison_table(earlier, report, headings=(arguments.compare_with, "this")))
    return report

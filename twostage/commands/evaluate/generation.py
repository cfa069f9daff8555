"""`generation`: how samples of a generator compare with real images."""

import argparse

from rich.console import Console

from eqvae.evaluation.measuring_samples import measure_generation
from eqvae.evaluation.tables import comparison_table, load_result, result_table, warn_of_different_conditions


def measure_samples(arguments: argparse.Namespace) -> dict:
    earlier = load_result(arguments.compare_with) if arguments.compare_with else None
    report = measure_generation(
        arguments.generated,
        arguments.reference,
        arguments.image_size,
        num_images=arguments.num_images,
        metrics=arguments.metrics,
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

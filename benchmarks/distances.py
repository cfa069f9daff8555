"""Distances between feature sets side by side with their textbook forms: seconds of each and the ratios.

Fréchet distance beside singular values of the roots of both covariances (`eigh`, `svd`), of many samples and of few;
statistics in batches beside an update of the covariance for each; kernel distance, precision and recall beside those of
torch-fidelity.
"""

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import torch
from measure import describe_device, ratios, report, time_in_turns
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from eqvae.commands import run_command
from eqvae.evaluation.distances import (
    features_to_statistics,
    kernel_distance,
    precision_recall,
    statistics_to_frechet_distance,
)
from eqvae.evaluation.feature_sets import RunningStatistics

BATCH_SIZE = 100
BESIDE_TEXTBOOK = ("frechet", "frechet_of_few", "statistics", "kernel_distance", "precision_recall")
SUBSETS = {"kid_subsets": 100, "kid_kernel": "poly", "rng_seed": 0, "verbose": False}
NEIGHBOURS = {"prc_neighborhood": 3, "prc_batch_size": 1000, "save_cpu_ram": True, "verbose": False}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--num-features", type=int, default=1280, help="width; 1,280 of EfficientNet-Lite0, 2,048 of Inception-v3")
    add("--num-samples", type=int, default=10_000, help="of each set")
    add("--num-few", type=int, default=300, help="samples of the small sets")
    add("--repeats", type=int, default=3, help="timed rounds")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time all in turns; one JSON-ready dict."""
    warnings.simplefilter("ignore")  # few samples for so many features
    generator = torch.Generator().manual_seed(0)
    shape = (2, arguments.num_samples, arguments.num_features)
    real, generated = torch.randn(shape, generator=generator) * torch.logspace(0, -2, arguments.num_features)
    counts = (arguments.num_samples, arguments.num_few)
    many, few = ([features_to_statistics(part[:count]) for part in (real, generated)] for count in counts)
    steps: dict[str, Callable[[], object]] = {
        "frechet": lambda: statistics_to_frechet_distance(*many),
        "frechet_textbook": lambda: by_singular_values(*many),
        "frechet_of_few": lambda: statistics_to_frechet_distance(*few),
        "frechet_of_few_textbook": lambda: by_singular_values(*few),
        "statistics": lambda: in_blocks(real),
        "statistics_textbook": lambda: batch_by_batch(real),
        "kernel_distance": lambda: kernel_distance(real, generated),
        "kernel_distance_textbook": lambda: kid_features_to_metric(
            generated.double(), real.double(), kid_subset_size=min(1000, len(real) // 2), **SUBSETS
        ),
        "precision_recall": lambda: precision_recall(real, generated),
        "precision_recall_textbook": lambda: prc_features_to_metric(generated.double(), real.double(), **NEIGHBOURS),
    }
    timed = time_in_turns(steps, torch.device("cpu"), arguments.repeats, warmup=1)
    return {
        "benchmark": "distances",
        "num_features": arguments.num_features,
        "num_samples": arguments.num_samples,
        "num_few": arguments.num_few,
        **timed,
        **{
            key: value
            for name in BESIDE_TEXTBOOK
            for key, value in ratios(timed, f"{name}_textbook", name, f"{name}_").items()
        },
        **describe_device(torch.device("cpu")),
    }


def by_singular_values(real: dict[str, np.ndarray], generated: dict[str, np.ndarray]) -> float:
    """The Fréchet distance with both roots taken by their eigenvectors."""
    roots = []
    for statistics in (real, generated):
        eigenvalues, eigenvectors = np.linalg.eigh(statistics["sigma"])
        roots.append(eigenvectors * np.sqrt(eigenvalues.clip(min=0)))
    shift = real["mu"] - generated["mu"]
    traces = np.trace(real["sigma"]) + np.trace(generated["sigma"])
    return float(shift @ shift + traces - 2 * np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum())


def in_blocks(features: torch.Tensor) -> dict[str, np.ndarray]:
    running = RunningStatistics()
    for batch in features.split(BATCH_SIZE):
        running.update(batch)
    return running.compute()


def batch_by_batch(features: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Sums of rows and of their products, added up for each batch."""
    total, products = 0.0, 0.0
    for batch in features.split(BATCH_SIZE):
        rows = batch.double().numpy()
        total, products = total + rows.sum(0), products + rows.T @ rows
    return total, products


if __name__ == "__main__":
    main()

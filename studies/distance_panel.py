"""Which distance orders small sets of images best: `python -m studies.distance_panel --output RESULTS.jsonl`.

Images of procedural scenes are degraded twice in each of three ways, a little and a little more: noise, blur, and a
class of which images are missing. Sets of 100 to 2,000 of them are compared with as many real images on the features of
EfficientNet-Lite0. What is known: equal distributions have distance 0, and of two degraded sets which is worse.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.data import open_source
from eqvae.evaluation import create_extractor, images_to_features, kernel_distance, statistics_to_frechet_distance
from eqvae.evaluation.distances import features_to_statistics, with_root
from eqvae.evaluation.inputs import image_batches
from eqvae.files import write_atomically
from studies.start_search import read_results

SIDE = 32
REAL_SEED, OTHER_SEED = 1, 2
NOISE = (4.0, 5.0)  # standard deviation in levels of 255
BLUR = (0.45, 0.5)  # standard deviation in pixels
MISSING = (0.5, 0.75)  # of the images of one class of ten
WAYS = ("noise", "blur", "missing class")
NUM_DIRECTIONS = 1000

Distance = Callable[[Tensor, Tensor], float]


def monge_distance(real: Tensor, generated: Tensor, num_directions: int = NUM_DIRECTIONS, seed: int = 0) -> float:
    """MIND (arXiv 2605.06797): 3 D times the mean squared difference of sorted projections, over random directions.

    Args:
        real, generated: features [N, D] each.
        num_directions: uniform on the sphere.
    """
    width = real.shape[1]
    directions = torch.randn(width, num_directions, generator=torch.Generator().manual_seed(seed))
    directions /= directions.norm(dim=0)
    sorted_real, sorted_generated = ((each.float() @ directions).sort(0).values for each in (real, generated))
    return float(3 * width * (sorted_real - sorted_generated).square().mean())


def distances_from(real: Tensor) -> dict[str, Callable[[Tensor], float]]:
    """Each distance of generated features from these real ones, by its name."""
    reference = with_root(features_to_statistics(real))
    return {
        "Fréchet": lambda generated: statistics_to_frechet_distance(reference, features_to_statistics(generated)),
        "KID": lambda generated: kernel_distance(real, generated),
        "MIND": lambda generated: monge_distance(real, generated),
    }


def degraded_images(images: Tensor, way: str, level: float, seed: int) -> Tensor:
    """uint8 images [N, 3, H, W] with noise of so many levels, or blurred with so many pixels."""
    values = images.float()
    if way == "noise":
        values = values + level * torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
    else:
        weights = torch.exp(-torch.arange(-2.0, 3.0).square() / (2 * level**2))
        kernel = (weights / weights.sum()).outer(weights / weights.sum()).expand(3, 1, 5, 5)
        values = F.conv2d(F.pad(values, (2, 2, 2, 2), mode="reflect"), kernel, groups=3)
    return values.round().clamp(0, 255).to(torch.uint8)


def feature_pools(num_images: int) -> dict[tuple[str, int], Tensor]:
    """Features [N, 1280] by way and level: ("real", 0), ("equal", 0) of equal distribution, and the degraded ones."""
    extractor = create_extractor()
    real, source = (open_source(f"scenes:{num_images}:{seed}", SIDE) for seed in (REAL_SEED, OTHER_SEED))
    images = torch.cat(list(image_batches(source)))
    labels = torch.tensor([source[index][1] for index in range(len(source))])
    pools = {("real", 0): images_to_features(image_batches(real), extractor)}
    pools["equal", 0] = images_to_features(images, extractor)
    for way, levels in (("noise", NOISE), ("blur", BLUR)):
        for number, level in enumerate(levels, 1):
            pools[way, number] = images_to_features(degraded_images(images, way, level, number), extractor)
    of_class = (labels == 0).nonzero()[:, 0]
    for number, share in enumerate(MISSING, 1):
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[of_class[: round(share * len(of_class))]] = False
        pools["missing class", number] = pools["equal", 0][kept]
    return pools


def measure(pools: dict[tuple[str, int], Tensor], sizes: list[int], num_draws: int) -> Iterator[dict]:
    """One line for each number of images and distance: its values of all draws of each pool."""
    draws = np.random.default_rng(0)
    for size in sizes:
        real = pools["real", 0][draws.choice(len(pools["real", 0]), size, replace=False)]
        picks = {
            place: [draws.choice(len(pool), size, replace=False) for _ in range(num_draws)]
            for place, pool in pools.items()
            if place[0] != "real"
        }
        for name, distance in distances_from(real).items():
            values = {
                f"{way} {level}": [distance(pools[way, level][rows]) for rows in each]
                for (way, level), each in picks.items()
            }
            yield {"num_images": size, "distance": name, "values": values}


def separation(better: list[float], worse: list[float]) -> float:
    """Difference of means in standard deviations of one set."""
    deviation = np.sqrt((np.var(better, ddof=1) + np.var(worse, ddof=1)) / 2)
    return float((np.mean(worse) - np.mean(better)) / deviation)


def to_markdown(lines: list[dict]) -> str:
    """The table of results.

    Bias: mean distance of equal distributions, in percent of that of the worse noise. Spread: its standard deviation in
    percent of its mean there. Then how often the worse of two sets has the larger distance, by the separation of
    normal distributions.
    """
    table = ["| images | distance | bias % | spread % | " + " | ".join(WAYS) + " |", "|" + " --- |" * 7]
    for line in lines:
        values = line["values"]
        equal, noisy = values["equal 0"], values["noise 2"]
        shares = []
        for way in WAYS:
            apart = separation(values[f"{way} 1"], values[f"{way} 2"])
            shares.append(f"{100 * NormalDist().cdf(apart / 2**0.5):.0f} % ({apart:.1f})")
        bias, spread = 100 * np.mean(equal) / np.mean(noisy), 100 * np.std(noisy, ddof=1) / np.mean(noisy)
        numbers = [f"{line['num_images']:,}", line["distance"], f"{bias:.0f}", f"{spread:.1f}", *shares]
        table.append("| " + " | ".join(numbers) + " |")
    return "\n".join(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pool", type=int, default=4000, help="images of each kind (default %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000, 2000], help="images of a set")
    parser.add_argument("--draws", type=int, default=10, help="sets of each kind (default %(default)s)")
    parser.add_argument("--output", type=Path, help="JSON lines of all distances (default: the table alone)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*biased upward")
    lines = list(measure(feature_pools(arguments.pool), arguments.sizes, arguments.draws))
    if arguments.output:
        write_atomically(arguments.output, "".join(json.dumps(line) + "\n" for line in lines).encode())
        lines = read_results(arguments.output)
    print(to_markdown(lines))


if __name__ == "__main__":
    main()

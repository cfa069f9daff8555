"""Writes the lines that `studies.forecast` takes, one for each latent space and seed of a sweep.

`python -m studies.forecast_measures runs/spaces studies/results/spaces.jsonl`: spaces that are not yet measured by the
sweep are passed over, those whose line is there already are not measured again.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from eqvae.autoencoders import load_autoencoder
from eqvae.data import open_source
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample, predict
from studies.spaces import SHAPES
from studies.start_search import read_results

IMAGES, IMAGE_SIZE, NUM_IMAGES = "scenes:1000:1", 32, 1000  # held out from autoencoders and generators alike
METRIC = "fd_efficientnet_lite0"


def measured_spaces(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """(arm, seed, its folder of links) of all that a sweep has measured to the end.

    Args:
        folder: of the sweep, below its root.
    """
    for seed_folder in sorted(folder.glob("nodes/*/seed*")):
        points = list(seed_folder.glob("metrics/sit/step*"))
        parts = [*points, seed_folder / "diagnostics"]
        if points and all((part / "done.json").is_file() for part in parts):
            yield seed_folder.parent.name, int(seed_folder.name.removeprefix("seed")), seed_folder


def measure(arm: str, seed: int, folder: Path, sweep: str) -> dict:
    """`family`, `predictors` by name, `fd` by training step, and what the sweep measured of the autoencoder.

    A family is a shape of `studies.spaces`; the arms of any other sweep, which have one start, are one.
    """
    autoencoder = load_autoencoder(str(folder / "autoencoder/autoencoder")).freeze()
    source = open_source(IMAGES, IMAGE_SIZE)
    prediction = predict(autoencoder_to_sample(autoencoder, source, NUM_IMAGES))
    distances = {
        point.name.removeprefix("step"): json.loads((point / "metrics.json").read_text())[METRIC]
        for point in sorted(folder.glob("metrics/sit/step*"))
    }
    return {
        "arm": arm,
        "seed": seed,
        "family": next((shape.name for shape in SHAPES if arm.startswith(f"{shape.name}-")), sweep),
        "fd": distances,
        "autoencoder": json.loads((folder / "diagnostics/metrics.json").read_text()),
        "predictors": prediction.values,
        "left_out": prediction.left_out,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, help="folder of the sweep, below its root")
    parser.add_argument("lines", type=Path, help="JSON lines, added to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    there = read_results(arguments.lines) if arguments.lines.exists() else []
    done = {(line["arm"], line["seed"]) for line in there}
    for arm, seed, folder in measured_spaces(arguments.sweep):
        if (arm, seed) not in done:
            line = measure(arm, seed, folder, arguments.sweep.name)
            with arguments.lines.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()

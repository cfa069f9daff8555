"""What EQ is worth from each of many starts: `python -m studies.dose studies/dose.yaml`.

Starts are trained and measured as those of `studies.start_search`. Then each has a sweep of its own: a control and EQ,
both with the loss that the start was trained with, and one generator. A line of results is kept for each start; its
sweep is removed.
"""

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path
from statistics import mean

import torch
import yaml
from rich.console import Console

from eqvae.autoencoders import load_autoencoder
from eqvae.commands import run_command
from eqvae.data import open_source
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample, predict
from studies.start_search import measure_candidate, read_table, run_table
from twostage.analysis.pairs import SpeedUp
from twostage.analysis.records import Curve, SweepResults
from twostage.analysis.summary import summarize
from twostage.analysis.treatment import KINDS
from twostage.loading import load_sweep
from twostage.sweep import run_sweep

CONTROL, EQ = "control", "equivariant"
ARMS = {CONTROL: ("Ordinary loss", None), EQ: ("EQ", "paper")}
"""Label and transforms."""


def sweep_of(table: dict, folder: Path) -> dict:
    """The content of the sweep file of a start that lies in a folder."""
    settings = dict(table["sweep"])
    tuning = settings.pop("fine_tuning")
    arms = {
        name: {
            "label": label,
            "config": str(folder / "config.yaml"),
            "overrides": tuning | {"model.init_args.transforms": transforms},
        }
        for name, (label, transforms) in ARMS.items()
    }
    own = {"name": "sweep", "title": folder.name, "control": CONTROL, "root": str(folder)}
    return own | {"start": {"autoencoder": str(folder / "autoencoder")}, "autoencoders": arms} | settings


def measure(table: dict, candidate: dict, folder: Path, num_workers: int) -> dict:
    """What a start is like, and what EQ did to it and to a generator."""
    base = table["bases"][candidate["base"]]
    start = measure_candidate(table, candidate, folder)
    source = open_source(base["held_out"], base["image_size"])
    autoencoder = load_autoencoder(str(folder / "autoencoder")).freeze()
    prediction = predict(autoencoder_to_sample(autoencoder, source, table["num_held_out"]))
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep_of(table, folder), sort_keys=False))
    sweep = load_sweep(path, [f"executor.num_workers={num_workers}"], to_run=True)
    _, results = run_sweep(sweep, f"sweep.py --config {path}", Console(file=sys.stderr), retry=True)
    shutil.rmtree(folder / "sweep")
    shutil.rmtree(folder / "store")
    return start | {"predictors": prediction.values} | found(results)


def found(results: SweepResults) -> dict:
    """What the sweep says: `gain` by seed, `change` of the last distance by seed, `arms`, and their `curves`.

    `gain` is the log speed-up in steps, 0 where both arms were past the level at their first points; `bound` whether it
    is one or such a 0; `change` the log ratio of the distances.
    """
    (comparison,) = summarize(results).comparisons
    speed_ups = {each.seed: each.speed_up for each in comparison.per_seed}
    return {
        "gain": {str(seed): _gain(each) for seed, each in speed_ups.items()},
        "bound": any(each is None or each.kind != "value" for each in speed_ups.values()),
        "change": {str(seed): value for seed, value in comparison.equal_steps[-1].changes.items()},
        "word": comparison.verdict.word,
        "arms": {arm: _arm(results, arm) for arm in ARMS},
        "curves": [_curve(curve, results.metric) for curve in results.curves],
    }


def _gain(each: SpeedUp | None) -> float:
    return 0.0 if each is None or each.log_ratio is None else each.log_ratio


def _curve(curve: Curve, metric: str) -> dict:
    distances = {str(point.num_steps): point.metrics[metric] for point in curve.points}
    return {"arm": curve.arm, "seed": curve.seed, "fd": distances}


def _arm(results: SweepResults, arm: str) -> dict[str, float]:
    """Means over seeds of what was measured of an arm's autoencoders."""
    own = [each for each in results.autoencoders if each.arm == arm]
    errors = [error for each in own for error in each.equivariance["latent"].items()]
    values = {kind: [value for name, value in errors if name.startswith(kind)] for kind in KINDS}
    values["psnr"] = [each.metrics["psnr"] for each in own]
    values["rfd"] = [each.metrics[f"r{results.metric}"] for each in own]
    return {name: mean(each) for name, each in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="YAML file with output, bases, candidates and sweep")
    parser.add_argument("--output", help="folder of the results instead of the table's")
    parser.add_argument("--num-workers", type=int, default=1, help="trainings side by side (default %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = read_table(arguments.table)
    output = Path(arguments.output or table["output"]).resolve()
    run_table(table, output, partial(measure, num_workers=arguments.num_workers))


if __name__ == "__main__":
    run_command(main)

"""Runs the sweep of a published study with fresh seeds, and says whether they agree with it."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from eqvae.files import write_atomically
from twostage.analysis.comparison import is_number
from twostage.analysis.records import Published, SweepResults
from twostage.compare.timing import choose_workers
from twostage.loading import load_sweep
from twostage.report.results import PLACES
from twostage.schema import Sweep
from twostage.sweep import make_folder, run_sweep

SWEEP = "verify.yaml"
WORKERS = "executor.num_workers"
SAME = 1e-3  # relative: a ready autoencoder measures the same but for the order of sums


def verify(
    study: SweepResults,
    name: str,
    seeds: Sequence[int],
    overrides: list[str],
    command: str,
    console: Console,
    retry: bool = False,
) -> tuple[Path, SweepResults]:
    """Train fresh seeds of a study and write their report, which shows them beside it.

    Args:
        study: as `read_study` gives it.
        name: by which the report calls it.
        seeds: fresh ones, see `fresh_seeds`.
        overrides: `key=value` of where the sweep runs: `root`, `executor`.
        command: how it is run again, for the report.
        retry: also parts that failed in an earlier run.

    Returns:
        The path of report.html, and the results it shows, `published` among them.

    Raises:
        ValueError: for a seed of the study, or an override that would change its numbers; else as `run_sweep`.
    """
    sweep = prepare(study, seeds, overrides)
    published = Published(
        name, study.created, study.versions, study.hardware, study.seeds, study.curves, study.max_seeds, study.stopped
    )

    def complete(results: SweepResults) -> SweepResults:
        return replace(results, published=published, notes=[*notes(study, results), *results.notes])

    return run_sweep(sweep, command, console, retry, complete=complete)


def prepare(study: SweepResults, seeds: Sequence[int], overrides: list[str]) -> Sweep:
    """Write the sweep file of the study with fresh seeds, beside its results, and read it.

    Raises:
        ValueError: as of `verify`.
    """
    if known := sorted(set(seeds) & set(study.seeds)):
        raise ValueError(f"--seeds: {known[0]} is one of the study's own, {_listed(study.seeds)}: give a fresh one")
    for override in overrides:
        key = override.partition("=")[0]
        if key.split(".")[0] not in PLACES:
            raise ValueError(f"{key}: a study is verified as it was run; only {' and '.join(PLACES)} can be set")
    workers = f"{WORKERS}={choose_workers(len(seeds) * len(study.arms))}"
    overrides = [workers, *overrides]  # what is given comes last, and counts
    places = OmegaConf.from_dotlist(overrides)
    if not places.get("root", "runs"):
        raise ValueError("root: give the folder that the results are to lie in")
    if repeated := [seed for seed in seeds if list(seeds).count(seed) > 1]:
        raise ValueError(f"--seeds: {repeated[0]} is given twice: give each once")
    root = Path(str(places.get("root", "runs")))
    at_once = {"until_decided": False, "racing": False, "smallest_speed_up": None}
    keys = study.sweep | {"name": f"verify-{study.name}", "seeds": list(seeds)} | at_once
    folder = root / keys["name"]
    content, was_there = OmegaConf.to_yaml(OmegaConf.create(keys)).encode(), folder.is_dir()
    make_folder(folder)
    write_atomically(folder / SWEEP, content)
    try:
        return load_sweep(folder / SWEEP, overrides, to_run=True)
    except ValueError:
        if not was_there:  # nothing is left of what cannot be run
            shutil.rmtree(folder)
        raise


def fresh_seeds(study: SweepResults, count: int = 1) -> list[int]:
    """The first seeds above all of the study."""
    first = max(study.seeds) + 1
    return list(range(first, first + count))


def notes(study: SweepResults, results: SweepResults) -> list[str]:
    """What is not as it was: versions, hardware, recipes, and ready autoencoders that measure otherwise."""
    found = []
    versions = {name: (study.versions.get(name), results.versions.get(name)) for name in results.versions}
    differing = [f"{name} {before}, here {now}" for name, (before, now) in versions.items() if before != now]
    if differing:
        found.append(f"The study was made with {'; '.join(differing)}.")
    if study.hardware != results.hardware:
        found.append(f"The study was made on {study.hardware}; this on {results.hardware}.")
    known = study.recipes.keys() & results.recipes.keys()  # a report of before knows none
    if changed := sorted(key for key in known if study.recipes[key] != results.recipes[key]):
        found.append(
            f"Not what the study was made with: the recipes of {', '.join(changed)} (configs, or what they name)."
        )
    return found + [
        f"{arm} measures otherwise than in the study ({name} {now:.6g}, there {before:.6g}): another autoencoder?"
        for arm, name, before, now in _moved(study, results)
    ]


def _moved(study: SweepResults, results: SweepResults) -> list[tuple[str, str, float, float]]:
    """(arm, metric, there, here) of ready autoencoders whose reconstruction is not what it was."""
    there = {each.arm: each.metrics for each in study.autoencoders if each.num_steps == 0}
    here = {each.arm: each.metrics for each in results.autoencoders if each.num_steps == 0}
    moved = []
    for arm in there.keys() & here.keys():
        before, now = there[arm].get("psnr"), here[arm].get("psnr")
        if is_number(before) and is_number(now) and abs(now - before) > SAME * abs(before):
            moved.append((arm, "psnr", before, now))
    return sorted(moved)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))

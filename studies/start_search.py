"""Trains and measures every autoencoder of a table, one after the other: `python -m studies.start_search TABLE`.

A table is a YAML file such as studies/start-search.yaml. Training is the project's own command, `train.py fit`, on a
config with the candidate's settings put in. Each candidate leaves its folder and one line of JSON; the same command
again does what is missing, and continues a training that was interrupted.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf

from eqvae.autoencoders import load_autoencoder
from eqvae.bases import load_config
from eqvae.commands import run_command
from eqvae.data import open_source, to_float
from studies.start_measures import measure_start

ROOT = Path(__file__).resolve().parents[1]
ASKED = Path("asked") / "config.yaml"  # in a candidate's folder, where the training's own has all defaults written out
KEYS = {"name", "base", "factor", "start", "set"}


def read_table(path: str) -> dict:
    """`output`, `set` (settings of all candidates), `bases` and `candidates` of a table.

    Raises:
        ValueError: naming a candidate that is unfinished, repeated, or refers to what is not there.
    """
    table = OmegaConf.to_container(OmegaConf.load(path))
    missing = {"output", "bases", "candidates"} - set(table)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    names = [candidate.get("name") for candidate in table["candidates"]]
    for candidate, name in zip(table["candidates"], names, strict=True):
        if not name or names.count(name) > 1:
            raise ValueError(f"{path}: candidates need different names, got {name!r} {names.count(name)} times")
        if unknown := set(candidate) - KEYS:
            raise ValueError(f"{path}: candidate {name} has unknown keys {sorted(unknown)}: use {sorted(KEYS)}")
        if candidate.get("base") not in table["bases"]:
            raise ValueError(f"{path}: candidate {name} has no base: use one of {', '.join(table['bases'])}")
    return table


def candidate_config(table: dict, candidate: dict, output: Path):
    """The training config of a candidate: its base's file, the settings of all, of the base, and its own.

    `start` names another candidate whose autoencoder it continues from.
    """
    base = table["bases"][candidate["base"]]
    config = load_config(ROOT / base["config"])
    settings = table.get("set", {}) | base.get("set", {}) | candidate.get("set", {})
    settings["trainer.default_root_dir"] = str(output / candidate["name"])
    if "start" in candidate:
        settings["model.init_args.autoencoder"] = str(output / candidate["start"] / "autoencoder")
    for key, value in settings.items():
        OmegaConf.update(config, key, value, merge=False)
    return config


def fingerprint(config, output: Path) -> str:
    """Half a sha256 of the settings, wherever the results lie."""
    settings = json.dumps(OmegaConf.to_container(config), sort_keys=True)
    return hashlib.sha256(settings.replace(str(output), "").encode()).hexdigest()[:32]


def run_candidate(config, folder: Path) -> None:
    """Train until the autoencoder's folder is there.

    Raises:
        ValueError: with the last line of the training's error, if it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ASKED).parent.mkdir(exist_ok=True)
    OmegaConf.save(config, folder / ASKED)
    command = [sys.executable, str(ROOT / "train.py"), "fit", "--config", str(folder / ASKED)]
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if checkpoint.is_file():
        command += ["--ckpt_path", str(checkpoint)]
    with open(folder / "log.txt", "a") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode < 0:
        raise SystemExit(f"stopped by signal {-done.returncode}: run the same command to go on")
    if done.returncode:
        raise ValueError((folder / "log.txt").read_text().strip().splitlines()[-1])


def measure_candidate(table: dict, candidate: dict, folder: Path) -> dict:
    """The numbers of a trained candidate on its base's held-out images."""
    base = table["bases"][candidate["base"]]
    source = open_source(base["held_out"], base["image_size"])
    images = torch.stack([source[index][0] for index in range(min(len(source), table.get("num_held_out", 1000)))])
    return measure_start(load_autoencoder(str(folder / "autoencoder")).freeze(), to_float(images))


def run_table(table: dict, output: Path, measure: Callable[[dict, dict, Path], dict] = measure_candidate) -> None:
    """Every candidate that has no line yet, in the table's order; its line has what `measure` finds of its folder."""
    output.mkdir(parents=True, exist_ok=True)
    results = output / "results.jsonl"
    done = {line["name"]: line for line in read_results(results)}
    for candidate in table["candidates"]:
        name, folder = candidate["name"], output / candidate["name"]
        config = candidate_config(table, candidate, output)
        if name in done:
            if done[name]["fingerprint"] != fingerprint(config, output):
                raise ValueError(f"{results}: {name} was run with other settings: give the new ones another name")
            continue
        begun = folder / ASKED
        if begun.is_file() and fingerprint(OmegaConf.load(begun), output) != fingerprint(config, output):
            raise ValueError(f"{folder} was begun with other settings: remove it, or give the new ones another name")
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        line = {key: candidate[key] for key in ("name", "base", "factor", "start") if key in candidate}
        line |= {"settings": candidate.get("set", {}), "fingerprint": fingerprint(config, output)}
        started = time.perf_counter()
        try:
            if not (folder / "autoencoder").is_dir():
                run_candidate(config, folder)
            line["train_seconds"] = time.perf_counter() - started
            line |= measure(table, candidate, folder)
        except (ValueError, RuntimeError) as error:
            line["failed"] = str(error).splitlines()[0]
        append(results, line)
        summary = ("failed", "rotation", "scale", "psnr", "ssim", "rfd_efficientnet_lite0")
        print(f"  { ({key: line[key] for key in summary if key in line}) }", flush=True)


def append(path: Path, line: dict) -> None:
    """One whole line at the end of a file, on the disk before the call returns."""
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_results(path: Path) -> list[dict]:
    """The lines of a result file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="YAML file with output, bases and candidates")
    parser.add_argument("--output", help="folder of the results instead of the table's")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = read_table(arguments.table)
    run_table(table, Path(arguments.output or table["output"]).resolve())


if __name__ == "__main__":
    run_command(main)

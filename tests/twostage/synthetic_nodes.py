"""Stand-ins for the work of a sweep's nodes: a counter on disk instead of a training, numbers instead of images.

What they leave is a function of settings and inputs alone, as the real ones' is, so a sweep of them has a real report.
An autoencoder with a large `kl_weight` is a bad one.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eqvae.files import write_atomically
from eqvae.hashes import write_json
from twostage.configs import value_at
from twostage.parts.training import checkpoint_at

SECONDS_PER_STEP = 0.0
NUM_STEPS = 5
CHECKPOINT = b"weights"
SPREAD = 50  # of measurements around their curve, in thousandths


def run_node(kind: str, folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress) -> None:
    """Count to NUM_STEPS, keeping the count as a checkpoint, then leave what a node of this kind leaves."""
    with open(folder / "starts.txt", "a") as starts:
        starts.write(f"{os.getpid()}\n")
    for role, source in inputs.items():
        assert (source / "done.json").is_file(), f"{role} is not done"
    if value_at(settings, "config.model.init_args.betas") == [0, 0] and kind == "autoencoder":
        print("the last words of a node")
        raise ValueError("betas of zero do not train")
    checkpoint = folder / "count.txt"
    for step in range(int(checkpoint.read_text()) if checkpoint.is_file() else 0, NUM_STEPS):
        time.sleep(SECONDS_PER_STEP)
        write_atomically(checkpoint, str(step + 1).encode())
        progress(step + 1, NUM_STEPS, 10 * (step + 1))
    _leave(kind, folder, settings, inputs)


def digest(kind: str, settings: dict[str, Any], inputs: dict[str, Path]) -> int:
    """A number of the settings and of what the inputs left."""
    parts = [kind, json.dumps(settings, sort_keys=True)]
    parts += [(source / "digest.txt").read_text() for _, source in sorted(inputs.items())]
    return int(hashlib.sha256("".join(parts).encode()).hexdigest()[:8], 16)


def _leave(kind: str, folder: Path, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    number = digest(kind, settings, inputs)
    write_atomically(folder / "digest.txt", str(number).encode())
    if kind in ("autoencoder", "generator"):
        steps = settings["config"]["trainer"]["max_steps"]
        cost = {"seconds": steps * 0.1, "num_steps": steps, "images_seen": steps * 8, "num_devices": 1}
        write_json(folder / "cost.json", cost)
    for step in settings.get("at_steps", []):
        write_atomically(checkpoint_at(folder, step), CHECKPOINT)
    if kind in ("autoencoder", "ready", "snapshot"):
        handicap = value_at(settings, "config.model.init_args.kl_weight", 0)  # by which its generators are worse
        write_atomically(folder / "handicap.txt", str(handicap).encode())
    if kind == "diagnostics":
        metrics = {"psnr": 20 + number % 100 / 10, "equivariance/latent/rotation 90": number % 7 / 10}
        write_json(folder / "metrics.json", metrics)
        _image(folder / "panel.png", number)
    if kind == "evaluation":
        handicap = float((inputs["autoencoder"] / "handicap.txt").read_text())
        value = (1 + handicap) * (1000 + number % SPREAD) / settings["at_step"] ** 0.3
        write_json(folder / "metrics.json", {"fd_efficientnet_lite0": value})
    if kind in ("evaluation", "reference"):
        _image(folder / "grid.png", number)


def _image(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)

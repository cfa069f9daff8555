"""Made-up results of a sweep with known answers: power-law curves, blobs for pictures."""

from pathlib import Path

import numpy as np
from PIL import Image

STEPS = (100, 200, 400, 800, 1600)
FACTORS = (2.0, 1.3, 1.6, 2.4)
"""True speed-up of the equivariant arm in seeds 0, 1, ...: its curve is the control's at `factor` times the steps."""

TRANSFORMS = ("rotation 90", "rotation 180", "rotation 270", "scale 0.50", "scale 0.75")


def power_law(steps, scale=9000.0, exponent=0.25, factor=1.0):
    """scale * (factor * steps) ** -exponent: a curve that is `factor` times faster than with factor 1."""
    return [scale * (factor * step) ** -exponent for step in steps]


def synthetic_results(num_seeds: int = 2, factors: tuple[float, ...] = FACTORS, steps: tuple[int, ...] = STEPS) -> dict:
    """Results in the schema of report.json, without pictures."""
    seeds = list(range(num_seeds))
    arms = ("control", "equivariant")
    return {
        "name": "tiny-shapes",
        "title": "Equivariance fine-tuning on procedural shapes",
        "question": "Does a better-behaved latent space make the generator learn faster, and by how much?",
        "commands": ["make demo", "python sweep.py --config configs/sweeps/tiny-shapes.yaml"],
        "created": "2026-01-02T03:04:05+00:00",
        "versions": {"python": "3.11.2", "torch": "2.11.0", "lightning": "2.6.6", "diffusers": "0.36.0"},
        "hardware": "2 CPU cores",
        "seconds": 421.7,
        "control": "control",
        "arms": [
            {
                "name": "control",
                "label": "Ordinary fine-tuning",
                "description": "The same steps, pictures as they are.",
            },
            {
                "name": "equivariant",
                "label": "Equivariant fine-tuning",
                "description": "Half the batches decode turned latents.",
            },
        ],
        "generators": [{"name": "sit", "label": "SiT-tiny"}],
        "seeds": seeds,
        "metric": "fd_efficientnet_lite0",
        "metric_label": "Fréchet distance (EfficientNet-Lite0)",
        "autoencoders": [
            _autoencoder("start", None),
            *(_autoencoder(arm, seed) for arm in arms for seed in seeds),
        ],
        "curves": [_curve(arm, seed, factors[seed], steps) for arm in arms for seed in seeds],
        "pictures": {"pca": [], "samples": [], "reference": None},
        "differences": [
            {"key": "model.transforms", "values": {"control": None, "equivariant": {"probability": 0.5}}},
            {
                "key": "trainer.default_root_dir",
                "values": {"control": "runs/control", "equivariant": "runs/equivariant"},
            },
        ],
        "cost": [
            {"stage": stage, "arm": arm, "seed": seed, "seconds": 31.4, "num_steps": 400, "images_seen": 25600}
            for stage in ("autoencoder", "generator")
            for arm in arms
            for seed in seeds
        ],
        "notes": ["A seed changes the fine-tuning, the generator's weights and its noise; the start is common to all."],
    }


def _autoencoder(arm: str, seed: int | None) -> dict:
    shift = 0.02 * (seed or 0)
    shrink = {"start": 1.1, "control": 1.0, "equivariant": 0.45}[arm] + shift
    errors = {transform: 0.018 * shrink * (1 + 0.2 * i) for i, transform in enumerate(TRANSFORMS)}
    metrics = {
        "psnr": 31.0 + 2 * shrink,
        "ssim": 0.951 - 0.02 * shrink,
        "perceptual": 0.0721 * shrink,
        "rfd_efficientnet_lite0": 700 - 260 * shrink,
        "intrinsic_dimension": 10 + 5 * shrink,
        "effective_rank": 6 + 10 * shrink,
        "high_frequency_share": 0.17 * shrink,
        "equivariance_latent": errors,
        "equivariance_decoded": {name: 2.1 * error for name, error in errors.items()},
    }
    return {"arm": arm, "seed": seed, "metrics": metrics, "seconds": 10.0, "device_seconds": 10.0, "num_steps": 400}


def _curve(arm: str, seed: int, factor: float, steps: tuple[int, ...]) -> dict:
    factor = factor if arm == "equivariant" else 1.0
    values = power_law(steps, scale=9000.0 * (1 + 0.04 * seed), factor=factor)
    points = [
        {
            "num_steps": step,
            "images_seen": 64 * step,
            "seconds": 0.05 * step,
            "device_seconds": 0.1 * step,
            "fd_efficientnet_lite0": value,
            "kid": value / 40_000,
            "precision": 0.6 - value / 10_000,
            "recall": 0.5 - value / 12_000,
        }
        for step, value in zip(steps, values, strict=True)
    ]
    return {"arm": arm, "generator": "sit", "seed": seed, "points": points}


def add_pictures(folder: Path, results: dict) -> dict:
    """Write small blobs as PNG into `folder` and name them in the results."""
    drawn = [
        (curve["arm"], curve["generator"], curve["seed"], point["num_steps"])
        for curve in results["curves"]
        for point in curve["points"]
    ]
    samples = [
        {"arm": arm, "generator": generator, "seed": seed, "num_steps": step,
         "file": _blobs(folder, f"samples-{arm}-{generator}-{seed}-{step}.png", 260, 40 + number)}
        for number, (arm, generator, seed, step) in enumerate(drawn)
    ]  # fmt: skip
    labels = ("Image", "Common start", "Ordinary fine-tuning", "Equivariant fine-tuning")
    pca = [{"label": label, "file": _blobs(folder, f"pca-{i}.png", 64, i)} for i, label in enumerate(labels)]
    pictures = {"pca": pca, "samples": samples, "reference": _blobs(folder, "reference.png", 260, 1)}
    return results | {"pictures": pictures}


def _blobs(folder: Path, file: str, side: int, seed: int) -> str:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Path(folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(Path(folder) / file)
    return file

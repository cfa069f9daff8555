"""Made-up results of a sweep with known answers: power-law curves, blobs for images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from twostage.analysis.comparison import Comparison
from twostage.analysis.records import (
    Arm,
    AutoencoderMeasurement,
    Curve,
    Difference,
    GeneratorEntry,
    Panel,
    Point,
    SampleGrid,
    StageCost,
    SweepResults,
)
from twostage.analysis.summary import summarize

METRIC = "fd_efficientnet_lite0"
STEPS = (100, 200, 400, 800, 1600)
FACTORS = (2.0, 1.3, 1.6, 2.4)
"""True speed-up of the equivariant arm in seeds 0, 1, ...: its curve is the control's at `factor` times the steps."""

TRANSFORMS = ("rotation 90", "rotation 180", "rotation 270", "scale 0.50", "scale 0.75")


def power_law(steps, scale=9000.0, exponent=0.25, factor=1.0):
    """scale * (factor * steps) ** -exponent: a curve that is `factor` times faster than with factor 1."""
    return [scale * (factor * step) ** -exponent for step in steps]


def synthetic_results(
    num_seeds: int = 2, factors: tuple[float, ...] = FACTORS, steps: tuple[int, ...] = STEPS
) -> SweepResults:
    """Results without images."""
    seeds, arms = list(range(num_seeds)), ("control", "equivariant")
    return SweepResults(
        name="tiny-shapes",
        title="Equivariance fine-tuning on procedural shapes",
        question="Does a better-behaved latent space make the generator learn faster, and by how much?",
        commands=["make demo", "python sweep.py --config configs/sweeps/tiny-shapes.yaml"],
        created="2026-01-02T03:04:05+00:00",
        versions={"python": "3.11.2", "torch": "2.11.0", "lightning": "2.6.6", "diffusers": "0.36.0"},
        hardware="2 CPU cores",
        seconds=421.7,
        control="control",
        arms=[
            Arm("control", "Ordinary fine-tuning", "The same steps, images as they are."),
            Arm("equivariant", "Equivariant fine-tuning", "Half the batches decode turned latents."),
        ],
        generators=[GeneratorEntry("sit", "SiT-tiny")],
        seeds=seeds,
        metric=METRIC,
        metric_label="Fréchet distance (EfficientNet-Lite0)",
        autoencoders=[_autoencoder("start", None), *(_autoencoder(arm, seed) for arm in arms for seed in seeds)],
        curves=[_curve(arm, seed, factors[seed], steps) for arm in arms for seed in seeds],
        differences=[
            Difference("model.transforms", {"control": None, "equivariant": {"probability": 0.5}}),
            Difference("trainer.default_root_dir", {"control": "runs/control", "equivariant": "runs/equivariant"}),
        ],
        cost=[
            StageCost(stage, 31.4, arm, seed, num_steps=400, images_seen=25600)
            for stage in ("autoencoder", "generator")
            for arm in arms
            for seed in seeds
        ],
        notes=["A seed changes the fine-tuning, the generator's weights and its noise; the start is common to all."],
    )


def changed(factors: tuple[float, ...] = FACTORS, **arguments) -> SweepResults:
    """Results with a seed for each true speed-up."""
    return synthetic_results(num_seeds=len(factors), factors=factors, **arguments)


def only(results: SweepResults) -> Comparison:
    """The one comparison of some results."""
    (comparison,) = summarize(results).comparisons
    return comparison


def _autoencoder(arm: str, seed: int | None) -> AutoencoderMeasurement:
    shrink = {"start": 1.1, "control": 1.0, "equivariant": 0.45}[arm] + 0.02 * (seed or 0)
    errors = {transform: 0.018 * shrink * (1 + 0.2 * i) for i, transform in enumerate(TRANSFORMS)}
    metrics = {
        "psnr": 31.0 + 2 * shrink,
        "ssim": 0.951 - 0.02 * shrink,
        "perceptual": 0.0721 * shrink,
        "rfd_efficientnet_lite0": 700 - 260 * shrink,
        "intrinsic_dimension": 10 + 5 * shrink,
        "effective_rank": 6 + 10 * shrink,
        "high_frequency_share": 0.17 * shrink,
    }
    equivariance = {"latent": errors, "decoded": {name: 2.1 * error for name, error in errors.items()}}
    return AutoencoderMeasurement(arm, seed, metrics, equivariance, num_steps=400, seconds=10.0, device_seconds=10.0)


def _curve(arm: str, seed: int, factor: float, steps: tuple[int, ...]) -> Curve:
    factor = factor if arm == "equivariant" else 1.0
    values = power_law(steps, scale=9000.0 * (1 + 0.04 * seed), factor=factor)
    points = []
    for step, value in zip(steps, values, strict=True):
        metrics = {METRIC: value, "kid": value / 40_000, "precision": 0.6 - value / 1e4, "recall": 0.5 - value / 1.2e4}
        points.append(Point(step, metrics, images_seen=64 * step, seconds=0.05 * step, device_seconds=0.1 * step))
    return Curve(arm, "sit", seed, points)


def with_metric(results: SweepResults, change) -> SweepResults:
    """The results with `change(curve, point)` as the metric of each point."""
    curves = [
        replace(
            curve,
            points=[replace(point, metrics=point.metrics | {METRIC: change(curve, point)}) for point in curve.points],
        )
        for curve in results.curves
    ]
    return replace(results, curves=curves)


def add_images(folder: Path, results: SweepResults) -> SweepResults:
    """Write small blobs as PNG into `folder` and name them in the results."""
    drawn = [
        (curve.arm, curve.generator, curve.seed, point.num_steps) for curve in results.curves for point in curve.points
    ]
    samples = [
        SampleGrid(*place, _blobs(folder, f"samples-{'-'.join(map(str, place))}.png", 260, 40 + number))
        for number, place in enumerate(drawn)
    ]
    labels = ("Image", "Common start", "Ordinary fine-tuning", "Equivariant fine-tuning")
    panels = [Panel(label, _blobs(folder, f"panel-{i}.png", 64, i)) for i, label in enumerate(labels)]
    reference = _blobs(folder, "reference.png", 260, 1)
    return replace(results, panels=panels, samples=samples, reference_grid=reference)


def _blobs(folder: Path, file: str, side: int, seed: int) -> str:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Path(folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(Path(folder) / file)
    return file

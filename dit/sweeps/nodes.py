"""What each kind of node does. Runs in a worker process; training goes through the command line of `train.py`."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from dit.checkpoints import load_generator
from dit.generation import SamplingSettings, choose_labels, generate_images
from eqvae.autoencoders import load_autoencoder
from eqvae.data.images import to_uint8
from eqvae.evaluation import create_extractor, images_to_features
from eqvae.evaluation.distances import features_to_statistics
from eqvae.evaluation.generation import features_to_generation_metrics
from eqvae.evaluation.pictures import autoencoder_panel, image_grid, save_png
from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.cli import TrainCLI
from eqvae.training.files import write_atomically

Progress = Callable[[int, int], None]  # done, total
BATCH_SIZE = 100
NUM_PANEL_IMAGES = 4


def run_node(kind: str, folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Do the work of a node in its folder, its inputs being folders by role."""
    KINDS[kind](folder, settings, inputs, progress)


def _autoencoder(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Fit an autoencoder, then measure what was exported: folder/autoencoder, metrics.json, panel.png."""
    cli = _stage_one(folder, settings, inputs, progress)
    if not (folder / "autoencoder").is_dir():
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=_unfinished_checkpoint(folder, cli.trainer.max_steps))
    _measure_autoencoder(folder, _stage_one(folder, settings, {"start": folder}, progress), cli.trainer.max_steps)


def _measure(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Measure an autoencoder as it is."""
    _measure_autoencoder(folder, _stage_one(folder, settings, inputs, progress), num_steps=0)


def _measure_autoencoder(folder: Path, cli: TrainCLI, num_steps: int) -> None:
    (metrics,) = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    plain = {name.removeprefix("val/"): value for name, value in metrics.items()}
    _write_json(folder / "metrics.json", plain | {"num_steps": num_steps})
    autoencoder = cli.model.autoencoder.cpu()
    images = next(iter(cli.datamodule.sequential_loader("validation", NUM_PANEL_IMAGES)))["image"]
    save_png(autoencoder_panel(autoencoder, images), folder / "panel.png")


def _latents(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Encode the training pictures: folder/latents."""
    tuned = {"start": inputs["autoencoder"]}
    cli = _stage_one(folder, settings, tuned, progress)
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)


def _generator(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Train a generator: a checkpoint at each evaluation step."""
    seed, steps = settings["seed"], settings["at_steps"]
    overrides = settings["overrides"] | {
        "seed_everything": seed,
        "trainer.max_steps": steps[-1],
        "model.init_args.seed": seed,
        "model.init_args.autoencoder": str(inputs["autoencoder"] / "autoencoder"),
        "data.init_args.seed": seed,
        "data.init_args.cache": str(inputs["latents"] / "latents"),
    }
    cli = _cli(folder, settings["config"], overrides, [ReportProgress(progress), SaveAtSteps(folder, steps)])
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=_last_checkpoint(folder))


def _reference(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Features of held-out real pictures: reference.npz, and a grid of them."""
    cli = _stage_one(folder, settings, inputs, progress)
    loader = cli.datamodule.sequential_loader("validation", settings["num_images"])
    pictures = torch.cat([to_uint8(batch["image"]) for batch in loader])
    if len(pictures) < settings["num_images"]:
        raise ValueError(f"evaluation.num_images is {settings['num_images']}, validation has {len(pictures)} pictures")
    extractor = create_extractor(settings["extractor"], settings["extractor_weights"])
    features = images_to_features(_reporting(pictures.split(BATCH_SIZE), progress), extractor)
    statistics = features_to_statistics(features)
    arrays = {"features": features.numpy(), **statistics}
    write_atomically(folder / "reference.npz", lambda file: np.savez(file, **arrays))
    save_png(image_grid(pictures[: settings["grid_images"]]), folder / "grid.png")


def _evaluation(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Sample and measure each checkpoint of a generator: points.json and grid-STEP.png."""
    autoencoder = load_autoencoder(inputs["autoencoder"] / "autoencoder").freeze()
    with np.load(inputs["reference"] / "reference.npz", allow_pickle=False) as arrays:
        reference = {name: arrays[name] for name in arrays.files}
    real = torch.from_numpy(reference.pop("features"))
    extractor = create_extractor(settings["extractor"], settings["extractor_weights"])
    sampling = SamplingSettings(settings["sampler"], settings["num_inference_steps"], seed=settings["seed"])
    guided = dataclasses.replace(sampling, guidance_scale=settings["grid_guidance_scale"])
    points, steps = [], settings["at_steps"]
    for number, step in enumerate(steps):
        generator = load_generator(checkpoint_at(inputs["generator"], step))
        labels = choose_labels(torch.arange(settings["num_images"]), generator.num_classes, "balanced")
        batches = generate_images(generator, autoencoder, labels, sampling, BATCH_SIZE)
        total = -(-len(labels) // BATCH_SIZE)
        shifted = _shifted(progress, number * total, len(steps) * total)
        features = images_to_features(_reporting(batches, shifted, total), extractor)
        metrics = features_to_generation_metrics(real, features, settings["extractor"], reference)
        points.append({"num_steps": step} | metrics)
        grid = torch.cat(list(generate_images(generator, autoencoder, labels[: settings["grid_images"]], guided)))
        save_png(image_grid(grid), folder / f"grid-{step:07d}.png")
    _write_json(folder / "points.json", points)


KINDS = {
    "autoencoder": _autoencoder,
    "measure": _measure,
    "latents": _latents,
    "generator": _generator,
    "reference": _reference,
    "evaluation": _evaluation,
}


def _stage_one(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> TrainCLI:
    """Command line of stage 1 with the sweep's seed, start and folders; `inputs["start"]` is where the start lies."""
    seed = settings.get("seed", 0)
    start = str(inputs["start"] / "autoencoder") if "start" in inputs else settings["autoencoder"]
    overrides = settings["overrides"] | {
        "seed_everything": seed,
        "model.init_args.seed": seed,
        "data.init_args.seed": seed,
        "model.init_args.export_folder": str(folder / "autoencoder"),
        "model.init_args.cache_folder": str(folder / "latents"),
    }
    overrides |= {"model.init_args.autoencoder": start} if start else {}
    return _cli(folder, settings["config"], overrides, [ReportProgress(progress)])


def _cli(folder: Path, config: str, overrides: dict[str, Any], callbacks: list[Callback]) -> TrainCLI:
    overrides = {"trainer.default_root_dir": str(folder)} | overrides
    defaults = {"callbacks": callbacks, "enable_progress_bar": False, "enable_model_summary": False}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in overrides.items()}
    args = ["--config", config, *(f"--{key}={text}" for key, text in texts.items())]
    return TrainCLI(args, run=False, trainer_defaults=defaults)


def checkpoint_at(folder: Path, step: int) -> Path:
    """Where `SaveAtSteps` leaves the checkpoint of a step."""
    return folder / "checkpoints" / f"step={step:07d}.ckpt"


def _last_checkpoint(folder: Path) -> str | None:
    """The checkpoint of the highest step, or `last.ckpt`, to resume a stopped run from."""
    found = sorted((folder / "checkpoints").glob("step=*.ckpt")) or sorted((folder / "checkpoints").glob("last.ckpt"))
    return str(found[-1]) if found else None


def _unfinished_checkpoint(folder: Path, max_steps: int) -> str | None:
    """As `_last_checkpoint`, but none of a finished training: Lightning would skip it, and its export with it."""
    last = _last_checkpoint(folder)
    return last if last and load_checkpoint(last)["global_step"] < max_steps else None


class SaveAtSteps(Callback):
    """Saves a checkpoint right after each of these steps."""

    def __init__(self, folder: Path, steps: list[int]):
        self.folder, self.steps = folder, set(steps)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step in self.steps:
            trainer.save_checkpoint(checkpoint_at(self.folder, trainer.global_step))


class ReportProgress(Callback):
    """Tells the sweep how far training, validation or prediction is."""

    def __init__(self, progress: Progress):
        self.progress = progress

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.progress(trainer.global_step, trainer.max_steps)

    def on_validation_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, loader: int = 0
    ) -> None:
        if trainer.state.fn == "validate":
            self.progress(batch_idx + 1, int(trainer.num_val_batches[0]))

    def on_predict_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, loader: int = 0
    ) -> None:
        self.progress(batch_idx + 1, int(trainer.num_predict_batches[0]))


def _reporting(batches, progress: Progress, total: int | None = None) -> Iterator:
    total = total or len(batches)
    for done, batch in enumerate(batches, start=1):
        yield batch
        progress(done, total)


def _shifted(progress: Progress, offset: int, total: int) -> Progress:
    return lambda done, _: progress(offset + done, total)


def _write_json(path: Path, content: Any) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())

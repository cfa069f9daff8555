"""What each kind of node does. Runs in a worker; training goes through the command line of `train.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import torch
import yaml
from lightning import LightningDataModule
from lightning.pytorch.callbacks import Callback

from dit.checkpoints import load_generator
from dit.generation import SamplingSettings, choose_labels, generate_images
from eqvae.autoencoders import load_autoencoder
from eqvae.data.images import to_uint8
from eqvae.evaluation import create_extractor
from eqvae.evaluation.feature_sets import images_to_feature_set, read_feature_set, write_feature_set
from eqvae.evaluation.generation import feature_sets_to_generation_metrics
from eqvae.evaluation.pictures import autoencoder_panel, image_grid, save_png
from eqvae.files import write_atomically
from eqvae.training.checkpoints import load_checkpoint, newest_checkpoint
from eqvae.training.cli import TrainCLI, allow_only_own_classes
from twostage.analysis.resampling import resampled_distances
from twostage.configs import NODE, fill_folders, flatten
from twostage.graph.store import Progress
from twostage.parts.training import Clock, ReportProgress, SaveAtSteps, checkpoint_at

BATCH_SIZE = 100
NUM_PANEL_IMAGES = 4
REFERENCE = "reference.safetensors"


def run_node(kind: str, folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Do the work of a node in its folder; texts of the settings that start with `{role}` mean its inputs' folders."""
    KINDS[kind](folder, fill_folders(settings, {NODE.strip("{}"): folder} | inputs), inputs, progress)


def _ready(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """A ready autoencoder, kept as it was: folder/autoencoder."""
    load_autoencoder(settings["autoencoder"]).save_pretrained(folder / "autoencoder")


def _autoencoder(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Train an autoencoder: folder/autoencoder, and a checkpoint at each step that is asked for."""
    callbacks = [ReportProgress(progress), Clock(folder), SaveAtSteps(folder, settings["at_steps"])]
    cli = _train_cli(folder, settings["config"], callbacks)
    if not (folder / "autoencoder").is_dir():
        _fit(cli, folder)


def _snapshot(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """The autoencoder as it was after some steps of a training: folder/autoencoder."""
    module, data = _loaded(folder, settings["config"])
    checkpoint = load_checkpoint(checkpoint_at(inputs["training"], settings["at_step"]))
    module.load_state_dict(checkpoint["state_dict"])
    module.export(data, folder / "autoencoder", checkpoint["global_step"])


def _loaded(folder: Path, config: dict[str, Any]) -> tuple[Any, Any]:
    cli = _train_cli(folder, config, [])
    return cli.model, cli.datamodule


def _diagnostics(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Measure an autoencoder as it was exported, normalization included: metrics.json and panel.png."""
    cli = _single_device_cli(folder, settings["config"], [ReportProgress(progress)])
    (metrics,) = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    _write_json(folder / "metrics.json", {name.removeprefix("val/"): value for name, value in metrics.items()})
    images = next(iter(cli.datamodule.sequential_loader("validation", NUM_PANEL_IMAGES)))["image"]
    save_png(autoencoder_panel(cli.model.autoencoder.cpu(), images), folder / "panel.png")


def _latents(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Encode the training pictures: folder/latents."""
    cli = _single_device_cli(folder, settings["config"], [ReportProgress(progress)])
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)


def _generator(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Train a generator: a checkpoint at each evaluation step."""
    callbacks = [ReportProgress(progress), Clock(folder), SaveAtSteps(folder, settings["at_steps"])]
    cli = _train_cli(folder, settings["config"], callbacks)
    _fit(cli, folder)


def _reference(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Features of held-out real pictures: reference.safetensors, and a grid of them."""
    loader = _data_module(settings["data"]).sequential_loader("validation", settings["num_images"])
    pictures = torch.cat([to_uint8(batch["image"]) for batch in loader])
    if len(pictures) < settings["num_images"]:
        raise ValueError(f"evaluation.num_images is {settings['num_images']}, validation has {len(pictures)} pictures")
    features = images_to_feature_set(_reporting(pictures.split(BATCH_SIZE), progress), _extractor(settings))
    write_feature_set(folder / REFERENCE, features, {})
    save_png(image_grid(pictures[: settings["grid_images"]]), folder / "grid.png")


def _evaluation(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Sample and measure one checkpoint of a generator: metrics.json and grid.png."""
    device, seed = _device(), settings["seed"]
    autoencoder = load_autoencoder(inputs["autoencoder"] / "autoencoder").freeze().to(device)
    generator = load_generator(checkpoint_at(inputs["generator"], settings["at_step"]))
    generator.backbone.to(device)
    real = read_feature_set(inputs["reference"] / REFERENCE, {})
    if real is None:
        raise ValueError(
            f"{inputs['reference'] / REFERENCE} is damaged: remove its folder, and the sweep makes it anew"
        )
    labels = choose_labels(torch.arange(settings["num_images"]), generator.num_classes, "balanced")
    sampling = {"sampler": settings["sampler"], "num_inference_steps": settings["num_inference_steps"], "seed": seed}
    measured = SamplingSettings(**sampling, guidance_scale=settings["guidance_scale"])
    batches = generate_images(generator, autoencoder, labels, measured, BATCH_SIZE)
    generated = images_to_feature_set(_reporting(batches, progress, len(labels)), _extractor(settings))
    metrics = feature_sets_to_generation_metrics(real, generated, settings["extractor"], settings["metrics"])
    resampled = resampled_distances(real.pooled, generated.features, settings["num_resamples"], seed)
    _write_json(folder / "metrics.json", metrics | ({"resampled": resampled} if resampled else {}))
    guided = SamplingSettings(**sampling, guidance_scale=settings["grid_guidance_scale"])
    grid = generate_images(generator, autoencoder, labels[: settings["grid_images"]], guided)
    save_png(image_grid(torch.cat(list(grid))), folder / "grid.png")


KINDS = {
    "ready": _ready,
    "autoencoder": _autoencoder,
    "snapshot": _snapshot,
    "diagnostics": _diagnostics,
    "latents": _latents,
    "generator": _generator,
    "reference": _reference,
    "evaluation": _evaluation,
}


def _train_cli(folder: Path, config: dict[str, Any], callbacks: list[Callback]) -> TrainCLI:
    """The command line of `train.py` on a node's config, which is kept beside its results and in TensorBoard."""
    path = folder / "config.yaml"
    write_atomically(path, yaml.safe_dump(config, sort_keys=False).encode())
    defaults = {"callbacks": callbacks, "enable_progress_bar": False, "enable_model_summary": False}
    cli = TrainCLI(["--config", str(path)], run=False, trainer_defaults=defaults)
    if cli.trainer.logger is not None:
        cli.trainer.logger.log_hyperparams(dict(flatten(config)))
    return cli


def _single_device_cli(folder: Path, config: dict[str, Any], callbacks: list[Callback]) -> TrainCLI:
    """The same for work that is not shared among devices."""
    single = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    return _train_cli(folder, config | {"trainer": config["trainer"] | single}, callbacks)


def _fit(cli: TrainCLI, folder: Path) -> None:
    """Train from the newest intact checkpoint of the node."""
    newest = newest_checkpoint(folder / "checkpoints")
    cli.train(newest.path and str(newest.path))
    if max(newest.step, cli.trainer.global_step) < cli.trainer.max_steps:
        raise ValueError(f"training was stopped at step {cli.trainer.global_step} of {cli.trainer.max_steps}")


def _data_module(config: dict[str, Any]) -> LightningDataModule:
    """Only the pictures of a config of `train.py`."""
    allow_only_own_classes()
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    return parser.instantiate_classes(parser.parse_object({"data": config})).data


def _extractor(settings: dict[str, Any]) -> Any:
    return create_extractor(settings["extractor"], settings["extractor_weights"], _device())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _reporting(batches, progress: Progress, num_images: int | None = None) -> Iterator:
    num_images, done = num_images or sum(len(batch) for batch in batches), 0
    for batch in batches:
        yield batch
        done += len(batch)
        progress(done, num_images, done)


def _write_json(path: Path, content: Any) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())

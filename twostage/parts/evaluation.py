"""One checkpoint of a generator is sampled and measured: metrics.json and grid.png."""

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from dit.checkpoints import Generator, load_generator
from dit.generation import NotFiniteError, generate_images
from dit.labels import BALANCED, choose_labels, given_labels, names_path, score_order
from dit.samplers.settings import SamplingSettings
from eqvae.autoencoders import load_autoencoder
from eqvae.evaluation import create_extractor
from eqvae.evaluation.feature_sets import images_to_feature_set
from eqvae.evaluation.generation import GENERATION_METRICS, feature_sets_to_generation_metrics
from eqvae.evaluation.image_grids import image_grid, save_png
from eqvae.evaluation.metric import EXTRACTORS
from eqvae.hashes import read_json, write_json
from eqvae.records import require_numbers
from twostage.analysis.resampling import resampled_distances
from twostage.graph.node import Node, Progress
from twostage.parts import reference
from twostage.parts.command import BATCH_SIZE, device, reporting
from twostage.parts.generator import num_places, objective_of
from twostage.parts.part import Estimate, Part
from twostage.parts.training import checkpoint_at, read_at

if TYPE_CHECKING:
    from twostage.schema import Evaluation, GeneratorSettings

METRICS, GRID = "metrics.json", "grid.png"
REAL_LABELS = "data"  # the labels of the real images


def sampling_of(evaluation: "Evaluation", generator: "GeneratorSettings") -> SamplingSettings:
    """How a generator is sampled, with nothing left to defaults: equal samples have equal settings.

    Raises:
        ValueError: naming what is wrong with the sweep's settings and the generator's own, or that they do not fit its
            objective.
    """
    shared, own = dataclasses.asdict(evaluation.sampling), generator.sampling
    if "sampler" in own:
        shared["options"] = {}
    try:
        merged = OmegaConf.merge(OmegaConf.structured(SamplingSettings), shared | own)
        sampling = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(sampling, SamplingSettings)
    return sampling.spelled_out(objective_of(generator), num_places(generator))


def settings(evaluation: "Evaluation", generator: "GeneratorSettings", seed: int, num_resamples: int) -> dict[str, Any]:
    """What determines a measurement of a generator's samples, beside the training step `at_step`."""
    sampling = dataclasses.replace(sampling_of(evaluation, generator), seed=seed)
    spelled_out = json.loads(json.dumps(dataclasses.asdict(sampling)))  # as the node's record gives it back
    about = {"sampling": spelled_out, "num_resamples": num_resamples}
    measured = {name: vars(evaluation)[name] for name in ("grid_guidance_scale", "labels", "metrics")}
    return reference.image_settings(evaluation) | measured | about


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    sampling, num_images = SamplingSettings(**settings["sampling"]), settings["num_images"]
    autoencoder = load_autoencoder(inputs["autoencoder"] / "autoencoder").freeze().to(device())
    generator = load_generator(checkpoint_at(inputs["generator"], settings["at_step"]))
    generator.backbone.to(device())
    real = reference.result(inputs["reference"])
    labels = _labels(settings, generator, inputs["reference"])
    batches = generate_images(generator, autoencoder, labels, sampling, BATCH_SIZE)
    extractor = create_extractor(settings["extractor"], settings["extractor_weights"], device())
    try:
        generated = images_to_feature_set(reporting(batches, progress, num_images), extractor)
    except NotFiniteError as error:
        print(f"{error}: its metrics are no numbers")
        write_json(folder / METRICS, dict.fromkeys(_quantities(settings), math.nan))
    else:
        how = settings["labels"]
        order = score_order(labels) if how == REAL_LABELS or names_path(how) else "given"
        metrics = feature_sets_to_generation_metrics(
            real, generated, settings["extractor"], settings["metrics"], order, device()
        )
        assert generated.features is not None, "known of images"
        resampled = resampled_distances(real.pooled, generated.features, settings["num_resamples"], sampling.seed)
        write_json(folder / METRICS, metrics | ({"resampled": resampled} if resampled else {}))
    guided = dataclasses.replace(sampling, guidance_scale=settings["grid_guidance_scale"])
    shown = choose_labels(settings["grid_images"], generator.num_classes, BALANCED)
    grid = generate_images(generator, autoencoder, shown, guided, require_finite=False)
    save_png(image_grid(torch.cat(list(grid))), folder / GRID)


def _quantities(settings: dict[str, Any]) -> list[str]:
    """Names of what the metrics measure."""
    names = EXTRACTORS[settings["extractor"]]
    return [each.name for metric in settings["metrics"] for each in GENERATION_METRICS[metric].quantities(names)]


def _labels(settings: dict[str, Any], generator: Generator, compared: Path) -> Tensor:
    """Classes of the samples [N]; `compared` is the folder of the real images."""
    how, num_images, num_classes = settings["labels"], settings["num_images"], generator.num_classes
    if how == REAL_LABELS:
        real = reference.labels(compared, generator.class_names)
        return given_labels(real, num_images, num_classes, "of the real images")
    return choose_labels(num_images, num_classes, how, settings["sampling"]["seed"])


def result(folder: Path) -> dict[str, Any]:
    """What was measured; `resampled` holds the distances of resampled images where they were asked for.

    Raises:
        ValueError: naming the file, if it is damaged or empty, or has an entry that is no number.
    """
    content = read_json(folder / METRICS)
    resampled = content.get("resampled", [])
    if not isinstance(resampled, list):
        raise ValueError(f"{folder / METRICS}: resampled is no list: remove its folder and measure again")
    named = {f"resampled[{number}]": value for number, value in enumerate(resampled)}
    metrics = {name: value for name, value in content.items() if name != "resampled"}
    require_numbers(metrics, folder / METRICS)
    require_numbers(metrics | named, folder / METRICS)
    return content


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    return Estimate(num_images=node.settings["num_images"])


def reads(settings: dict[str, Any]) -> dict[str, list[str]]:
    return read_at("generator", settings["at_step"])


EVALUATION = Part("evaluation", run, estimate, by_name=True, reads=reads)

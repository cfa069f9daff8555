"""Features of held-out real images, which samples are compared with: reference.safetensors, and a grid of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from eqvae.data.images import to_uint8
from eqvae.evaluation import create_extractor
from eqvae.evaluation.feature_sets import (
    FeatureSet,
    as_reference,
    images_to_feature_set,
    read_feature_set,
    write_feature_set,
)
from eqvae.evaluation.image_grids import image_grid, save_png
from eqvae.hashes import require_safetensors, write_safetensors
from eqvae.selection import evenly_spaced
from twostage.graph.node import Node, Progress
from twostage.parts.command import BATCH_SIZE, data_module, device, reporting
from twostage.parts.part import Estimate, Part

if TYPE_CHECKING:
    from twostage.schema import Evaluation

FEATURES, LABELS, GRID = "reference.safetensors", "labels.safetensors", "grid.png"
CLASS_NAMES = "class_names"  # of the labels, in their file's metadata


def image_settings(evaluation: "Evaluation") -> dict[str, Any]:
    """What determines reference images and their features, of a sweep's evaluation."""
    return {name: vars(evaluation)[name] for name in ("num_images", "grid_images", "extractor", "extractor_weights")}


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    wanted = settings["num_images"]
    data = data_module(settings["data"])
    loader = data.sequential_loader("validation", wanted)
    batches = [(to_uint8(batch["image"]), batch["label"]) for batch in loader]
    images, classes = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if len(images) < wanted:
        raise ValueError(f"evaluation.num_images is {wanted}, the validation set has {len(images)} images")
    extractor = create_extractor(settings["extractor"], settings["extractor_weights"], device())
    features = images_to_feature_set(reporting(images.split(BATCH_SIZE), progress, wanted), extractor)
    write_feature_set(folder / FEATURES, as_reference(features), {})
    names = json.dumps(data.description("validation")["class_names"])
    write_safetensors(folder / LABELS, {"label": classes}, {CLASS_NAMES: names})
    save_png(image_grid(images[evenly_spaced(settings["grid_images"], len(images))]), folder / GRID)


def result(folder: Path) -> FeatureSet:
    """The features of a finished node.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    found = read_feature_set(folder / FEATURES, {})
    if found is None:
        raise ValueError(f"{folder / FEATURES} is damaged: start the sweep with --retry to make it anew")
    return found


def labels(folder: Path, known: list[str] | None = None) -> Tensor:
    """Classes [N] of the images of a finished node, as a generator counts them.

    Args:
        known: names of the generator's classes; None, or classes without names, leaves the numbers as they are.

    Raises:
        ValueError: naming the file, if it is missing or damaged, or a class that is none of the generator's.
    """
    names = json.loads(require_safetensors(folder / LABELS).get(CLASS_NAMES, "null"))
    found = load_file(folder / LABELS)["label"]
    if names is None or known is None or names == known:
        return found
    if strange := [name for name in names if known.count(name) != 1]:
        raise ValueError(
            f"evaluation.labels data: the validation images have a class {strange[0]!r}, the generator has "
            "learned none of that name, or two: give both sets the same classes, or other labels"
        )
    return torch.tensor([known.index(name) for name in names])[found]


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    return Estimate(num_images=node.settings["num_images"])


REFERENCE = Part("reference", run, estimate)

"""Whole measurements of an autoencoder: images in, a report out, as `evaluate.py` prints and saves it.

A report is a plain dict: quantities by name, a spread beside each mean (`NAME_std`), and the conditions that another
report must share to be compared with. `result_table` shows one, `comparison_table` two.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.data import ImageSource
from eqvae.data.given import Images, describe_given, to_source
from eqvae.data.module import ImageBatches
from eqvae.evaluation.autoencoder import LatentMetrics
from eqvae.evaluation.batches import images_at_once
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample, choose_predictors, describe_sample, predict
from eqvae.evaluation.reconstruction import ReconstructionMetrics
from eqvae.evaluation.tables import CENTER_CROP, backend_versions, directions
from eqvae.precision import encoding
from eqvae.selection import describe_selection
from eqvae.stream import SequentialBatches

DEFAULT_SIDE = 32  # of images that are named, pixels


def measure_reconstruction(
    autoencoder: Autoencoder,
    images: Images,
    image_size: int = DEFAULT_SIDE,
    *,
    num_images: int | None = None,
    extractor: str | Sequence[str] = "efficientnet_lite0",
    extractor_weights: str | None = None,
    perceptual: str = "efficientnet_lite0",
    perceptual_weights_file: str | None = None,
    uint8_rule: Literal["round", "truncate"] = "round",
    num_workers: int = 0,
    data: str | None = None,
) -> dict[str, Any]:
    """How well an autoencoder gives images back: PSNR, SSIM, perceptual and Fréchet distance.

    Args:
        autoencoder: on the device that measures.
        images: a word of `open_source`, such as "shapes:500:1" or a folder, a source, or what `to_images` takes.
        image_size: side of images that are named; others are measured as they are.
        num_images: measure only so many, evenly spaced; None: all.
        extractor, extractor_weights, perceptual, perceptual_weights_file, uint8_rule: of `ReconstructionMetrics`.
        num_workers: processes that decode images.
        data: what the report calls the images; None: their word.

    Raises:
        ValueError: for images that cannot be had, or that a metric or the autoencoder cannot take, or an autoencoder
            that gives values which are not finite.
    """
    source = _fitting_source(autoencoder, images, image_size)
    if min(len(source), len(source) if num_images is None else num_images) < 2:
        raise ValueError("one image: the Fréchet distance of reconstructions takes at least 2, give more")
    names = [extractor] if isinstance(extractor, str) else list(extractor)
    settings = (names, extractor_weights, perceptual, perceptual_weights_file)
    metrics = ReconstructionMetrics(*settings, uint8_rule=uint8_rule)
    for batch in _batches(source, autoencoder, num_images, num_workers):
        with torch.no_grad(), encoding("float32", batch.device):
            latents, _ = autoencoder.latent_moments(batch)
            metrics.update(batch, autoencoder.decode(latents).float())
    report: dict[str, Any] = _with_spread(metrics.compute(), metrics.standard_deviations())
    _require_finite(not math.isnan(report["psnr"]), "reconstructions")
    report |= {"extractor": ", ".join(names), "perceptual": perceptual, "num_images": int(report["num_images"])}
    report["images"] = describe_selection(num_images, len(source))
    return report | conditions(data or describe_given(images), _side(source))


def measure_latents(
    autoencoder: Autoencoder,
    images: Images,
    image_size: int = DEFAULT_SIDE,
    *,
    num_images: int | None = None,
    predictors: str | Sequence[str] = "all",
    num_workers: int = 0,
    data: str | None = None,
) -> dict[str, Any]:
    """What a latent space is like: equivariance errors, dimension, rank, spectrum, and what they may foretell.

    Args:
        autoencoder, images, image_size, num_images, num_workers, data: as of `measure_reconstruction`; the autoencoder
            frozen.
        predictors: of how well a generator will learn: "all", "none", or names of `PREDICTORS`.

    Raises:
        ValueError: as of `measure_reconstruction`, or for an unknown predictor.
    """
    names = choose_predictors([predictors] if isinstance(predictors, str) else list(predictors))
    source = _fitting_source(autoencoder, images, image_size)
    metrics = LatentMetrics(expected_images=min(num_images or len(source), len(source)))
    for batch in _batches(source, autoencoder, num_images, num_workers):
        with encoding("float32", batch.device):
            metrics.update(autoencoder, batch)
    _require_finite(metrics.is_finite, "latents")
    report = _with_spread(metrics.compute(), metrics.standard_deviations())
    if names != []:
        device = str(autoencoder.last_layer.device)
        with encoding("float32", autoencoder.last_layer.device):
            sample = autoencoder_to_sample(autoencoder, source, num_images, num_workers, device, names)
            values, left_out = predict(sample, names)
        report |= values | describe_sample(sample, source) | ({"left_out": left_out} if left_out else {})
    about = {"num_images": metrics.num_images, "images": describe_selection(num_images, len(source))}
    about |= metrics.selections()
    if autoencoder.has_normalization:
        carried = autoencoder.normalization.to_dict()
        about |= {"normalization_method": carried["method"]}
        about |= {f"normalization_{name}": list(carried[name]) for name in ("shift", "scale")}
    report |= metrics.curves() | about | conditions(data or describe_given(images), _side(source))
    return report | {"directions": directions(report)}


def _require_finite(is_finite: bool, what: str) -> None:
    if not is_finite:
        raise ValueError(
            f"the autoencoder's {what} are not finite: its training has diverged, take an earlier checkpoint"
        )


def _side(source: ImageSource) -> int:
    """Width of its images in pixels."""
    return source[0][0].shape[-1]


def _fitting_source(autoencoder: Autoencoder, images: Images, image_size: int) -> ImageSource:
    source = to_source(images, image_size)
    for side in source[0][0].shape[-2:]:
        autoencoder.require_image_size(side, "image_size")
    return source


def _batches(
    source: ImageSource, autoencoder: Autoencoder, num_images: int | None, num_workers: int
) -> Iterator[Tensor]:
    """The images that are asked for: [B, 3, H, W] in [-1, 1], on the autoencoder's device."""
    at_once = images_at_once(*source[0][0].shape[-2:])
    batches = SequentialBatches(ImageBatches(source), at_once, num_images)
    device = autoencoder.last_layer.device
    return (batch["image"].to(device) for batch in batches.loader(num_workers))


def _with_spread(means: dict[str, Any], deviations: dict[str, float]) -> dict[str, Any]:
    """Means, and beside them the standard deviations over images as `NAME_std`."""
    return means | {f"{name}_std": value for name, value in deviations.items()}


def conditions(data: str, image_size: int) -> dict[str, Any]:
    """What two results must have in common to be compared."""
    return {"image_size": image_size, "crop": CENTER_CROP, "data": data, "versions": backend_versions()}

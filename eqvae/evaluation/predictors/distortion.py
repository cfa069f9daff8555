"""Local distortion: does the encoder stretch all small changes of an image alike?"""

import torch
from torch import Tensor

from eqvae.data.images import to_float
from eqvae.evaluation.predictors.base import LatentSample, Predictor, known

STEP = 0.02


def small_changes(images: Tensor) -> list[Tensor]:
    """Tangents of an image by finite differences: shifts by one pixel, brightness, contrast, saturation."""
    grey = images.mean(1, keepdim=True)
    contrast = images - images.mean((1, 2, 3), keepdim=True)
    changed = [STEP * torch.ones_like(images), STEP * contrast, STEP * (images - grey)]
    return [images.roll(1, dims=axis) - images for axis in (2, 3)] + changed


@torch.no_grad()
def stretches(sample: LatentSample) -> Tensor:
    """Latent over image distance of each small change of each image, [M, changes]; NaN where nothing changed."""
    found, encode = [], known(sample.encode)
    for part in sample.in_parts(known(sample.images), 64):
        images = to_float(part)
        latents = encode(images)
        ratios = []
        for change in small_changes(images):
            moved = (encode(images + change) - latents).double().flatten(1).norm(dim=1)
            length = change.double().flatten(1).norm(dim=1)
            ratios.append((moved / length.where(length > 1e-6, torch.nan)).cpu())
        found.append(torch.stack(ratios, dim=1))
    return torch.cat(found)


def compute(sample: LatentSample) -> dict[str, float]:
    """Standard deviations of the log stretch: no unit and no dimension, 0 for an isometry up to a factor.

    Over all images and changes; and over the changes of an image, then the root mean square over images.
    """
    logs = stretches(sample).clamp_min(1e-12).log()
    if int((~logs.isnan()).sum()) < 2:
        raise ValueError("distortion needs images that change under shifts, brightness, contrast or saturation")
    deviations = logs - logs.nanmean(1, keepdim=True)
    overall = logs - logs.nanmean()
    return {"log_spread": float(overall.square().nanmean().sqrt()),
            "within_image": float(deviations.square().nanmean().sqrt())}  # fmt: skip


DISTORTION = Predictor("distortion", "local distortion of the encoder", "arXiv 2604.02751",
                       {"log_spread": "lower", "within_image": "lower"}, compute, needs=("model",))  # fmt: skip

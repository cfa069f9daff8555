"""Equivariance error of normalized latents: how far encoding and transforming are from changing places."""

import torch
from torch import Tensor

from eqvae.data.images import to_float
from eqvae.equivariance import measured_transforms
from eqvae.evaluation.predictors.base import LatentSample, Predictor, known
from eqvae.evaluation.predictors.sensitivity import channel_sensitivity


@torch.no_grad()
def channel_errors(sample: LatentSample) -> dict[str, tuple[Tensor, Tensor]]:
    """{probe: squares [M, C] of T E(x) - E(T x), and of E(T x)}."""
    errors: dict[str, list[Tensor]] = {}
    norms: dict[str, list[Tensor]] = {}
    encode = known(sample.encode)
    for part in sample.in_parts(known(sample.images), 64):
        images = to_float(part)
        latents = encode(images)
        size = latents.shape[-2], latents.shape[-1]
        transforms = measured_transforms(size, smallest_side=sample.smallest_side)
        for name, transform in transforms.items():
            expected, actual = encode(transform(images)).double(), transform(latents).double()
            if expected.shape != actual.shape:
                raise ValueError("equivariance needs smaller latents of smaller images, this autoencoder resizes them")
            error = actual - expected
            errors.setdefault(name, []).append(error.square().sum((2, 3)).cpu())
            norms.setdefault(name, []).append(expected.square().sum((2, 3)).cpu())
    return {name: (torch.cat(parts), torch.cat(norms[name])) for name, parts in errors.items()}


def compute(sample: LatentSample) -> dict[str, float]:
    """Means over probes of a kind. Weights by what the decoder sees keep channels of noise, whose error is 2, out."""
    errors, sensitivity = channel_errors(sample), channel_sensitivity(sample)
    even = torch.ones_like(sensitivity)
    values = {}
    for ending, weights in (("", even), ("_weighted", sensitivity)):
        for kind in ("scale", "rotation"):
            pairs = [pair for name, pair in errors.items() if name.startswith(kind)]
            if not pairs:
                size = " x ".join(map(str, sample.latents.shape[2:]))
                raise ValueError(f"equivariance needs latents that can be halved, these have sides of {size}")
            ratios = [(error @ weights) / (norm @ weights).clamp_min(1e-12) for error, norm in pairs]
            values[kind + ending] = float(torch.cat(ratios).mean())
    return values


EQUIVARIANCE = Predictor("equivariance", "equivariance error", "arXiv 2502.09509, section 3; arXiv 2606.03578",
                         dict.fromkeys(("scale", "rotation", "scale_weighted", "rotation_weighted"), "lower"),
                         compute, needs=("model",), invariances=())  # fmt: skip

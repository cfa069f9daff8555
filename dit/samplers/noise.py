"""All randomness of sampling, keyed by image index: an image does not depend on the batch or device it is made in."""

from torch import Tensor

from dit.samplers.sampler import StepNoise
from eqvae.randomness import fold_keys, keyed_normal


def image_noise(indices: Tensor, shape: tuple[int, ...], seed: int) -> Tensor:
    """Starting noise [B, *shape] of images by their indices [B]."""
    return keyed_normal(indices, shape, seed=seed, stream="image-noise")


def step_noise(indices: Tensor, shape: tuple[int, ...], seed: int) -> StepNoise:
    """Noise of each sampling step, [B, *shape], by image indices [B]."""
    return lambda step: keyed_normal(fold_keys(step, indices), shape, seed=seed, stream="step-noise")

"""All regularizers, each as its publication has it, and what the tests of them share."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder, load_autoencoder
from eqvae.regularizers import (
    Action,
    AffineTransforms,
    ChannelMasking,
    DecodingSpectrumMatching,
    Equivariance,
    ExplicitEquivariance,
    FoundationAlignment,
    FractionalShift,
    LatentMasking,
    LatentNoise,
    LatentRegularizer,
    LocalCorrelation,
    NoisyDecoding,
    Pass,
    Reconstruction,
    ScaleEquivariance,
    SpectrumMatching,
    StayClose,
    StepKey,
    reconstruct,
)
from tests.eqvae.test_objective import TINY_VQ, images
from tests.tiny import TINY_AUTOENCODER

CONFIGS = {"kl": TINY_AUTOENCODER, "vq": TINY_VQ}


class Method(NamedTuple):
    """How tests take a method: whether VQ autoencoders may have it, and what of the autoencoder trains."""

    create: Callable[[], LatentRegularizer]
    of_vq: bool = True
    trainable: str = "all"


METHODS = {
    "equivariance": Method(Equivariance),
    "explicit": Method(ExplicitEquivariance),
    "scale_equivariance": Method(ScaleEquivariance),
    "spectrum": Method(SpectrumMatching),
    "low_pass": Method(DecodingSpectrumMatching),
    "noise": Method(LatentNoise, of_vq=False),
    "noisy_decoding": Method(NoisyDecoding, of_vq=False, trainable="decoder"),
    "masking": Method(LatentMasking),
    "channel_masking": Method(ChannelMasking, of_vq=False),
    "correlation": Method(LocalCorrelation),
    "alignment": Method(FoundationAlignment),
    "affine": Method(AffineTransforms),
    "shift": Method(FractionalShift),
    "stay_close": Method(StayClose),
}


def key(step: int = 0, stream: str = "", size: tuple[int, int] = (16, 16), count: int = 4) -> StepKey:
    return StepKey(3, step, size, torch.arange(count) + 4 * step, stream=stream)


def absolute(images: Tensor, target: Tensor) -> Tensor:
    return (images - target).abs().mean()


def prepared(
    method: Method, config: str = "kl", changed: Callable[[Autoencoder], Autoencoder] = lambda autoencoder: autoencoder
) -> tuple[LatentRegularizer, Autoencoder]:
    """The regularizer and a tiny autoencoder, which may be changed first."""
    autoencoder = changed(load_autoencoder(CONFIGS[config]))
    if method.trainable == "decoder":
        autoencoder.freeze_latents()
    regularizer = method.create()
    regularizer.prepare(autoencoder)
    return regularizer, autoencoder


def acted_out(action: Action, autoencoder: Autoencoder, given: Tensor | None = None) -> tuple[Reconstruction, dict]:
    """One forward pass, and the terms by name."""
    result = reconstruct(autoencoder, images() if given is None else given, action)
    return result, {term.name: term for term in action.terms(Pass(autoencoder, result, absolute))}

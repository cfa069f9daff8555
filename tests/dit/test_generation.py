"""Images by their index: to the last bit the same for any batch size, split and number of threads."""

import pytest
import torch
from torch import Tensor

from dit.backbones import DiT, MaskGIT, SiT
from dit.checkpoints import Generator
from dit.generation import SamplingSettings, generate_images, make_images
from dit.labels import choose_labels
from dit.objectives import Diffusion, Flow, MaskedTokens
from eqvae.autoencoders import Normalization
from eqvae.fixed_batches import ROWS
from eqvae.latents import LatentSpec, TokenSpec
from tests.dit.tiny import randomize

NUM_IMAGES = 2 * ROWS + 3
WIDE = {"input_size": 8, "hidden_size": 96, "depth": 2, "num_heads": 2, "num_classes": 5}
SAMPLERS = {"heun": SiT, "adaptive": SiT, "euler_maruyama": SiT, "ddpm": DiT, "confidence": MaskGIT, "halton": MaskGIT}


class LastBits:
    """Stands for an autoencoder: "decodes" latents to their last eight bits, and tokens to themselves."""

    latent_channels, downsampling_factor, num_codes = 4, 4, 64

    def to(self, device: torch.device) -> "LastBits":
        return self

    def lookup(self, tokens: Tensor) -> Tensor:
        return tokens[:, None].float()

    def decode(self, latents: Tensor) -> Tensor:
        is_tokens = latents.shape[1] == 1
        levels = latents if is_tokens else (latents.contiguous().view(torch.int32) & 255).float()
        return levels / 127.5 - 1


def gentle(backbone: torch.nn.Module) -> torch.nn.Module:
    """Random weights that let no sampler diverge."""
    randomize(backbone)
    for parameter in backbone.parameters():
        parameter.mul_(0.4)
    return backbone


def wide_generator(sampler: str) -> Generator:
    """Wide enough that kernels of other batch sizes round otherwise."""
    family = SAMPLERS[sampler]
    if family is MaskGIT:
        backbone = gentle(MaskGIT(num_codes=64, **WIDE))
        spec = TokenSpec((8, 8), 4, None, Normalization(), 64)
        return Generator(backbone, MaskedTokens(), spec, None, 7)
    backbone = gentle(family(patch_size=2, in_channels=4, **WIDE))
    objective = Flow() if family is SiT else Diffusion(learn_sigma=backbone.config["learn_sigma"])
    return Generator(backbone, objective, LatentSpec((4, 8, 8), 4, None, Normalization()), None, 7)


def settings_of(sampler: str, guidance_scale: float) -> SamplingSettings:
    return SamplingSettings(sampler, 3, guidance_scale)


@pytest.mark.reliability(13, counts="samplers in any batches")
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_batches_splits_and_threads_change_no_bit(sampler, guidance_scale, reached):
    generator, settings = wide_generator(sampler), settings_of(sampler, guidance_scale)
    indices = torch.arange(NUM_IMAGES)
    labels = choose_labels(NUM_IMAGES, 5, "balanced")
    whole, _ = make_images(generator, LastBits(), indices, labels, settings)
    assert len(whole.flatten(1).unique(dim=0)) == NUM_IMAGES
    for size, num_threads in ((1, 1), (ROWS + 1, 2), (100, 2)):
        torch.set_num_threads(num_threads)
        try:
            images = torch.cat(list(generate_images(generator, LastBits(), labels, settings, size)))
        finally:
            torch.set_num_threads(1)
        assert torch.equal(images, whole), f"batch size {size}, {num_threads} threads"
    split = [make_images(generator, LastBits(), i, labels[i], settings)[0] for i in (indices[:ROWS], indices[ROWS:])]
    assert torch.equal(torch.cat(split), whole)
    reached.largest("share of pixels that differ", 0)


def test_costs_are_those_of_the_images_alone():
    generator, indices = wide_generator("heun"), torch.arange(NUM_IMAGES)
    _, costs = make_images(generator, LastBits(), indices, indices % 5, settings_of("heun", 2.0))
    assert costs == {"function_evaluations": 6 * NUM_IMAGES, "network_passes": 12 * NUM_IMAGES}

"""Generators of published sizes with random weights, and random data for them."""

import torch

from dit.backbones import TOKEN_BACKBONES, create_backbone, create_token_backbone
from dit.checkpoints import Generator
from dit.objectives import Diffusion, Flow, MaskedTokens
from eqvae.autoencoders import Normalization
from eqvae.latents import LatentSpec, TokenSpec


def create_random_generator(name: str, input_size: int) -> Generator:
    """DiT with its diffusion, SiT with its flow, or MaskGIT with its masked tokens, at this side of the latents."""
    if name in TOKEN_BACKBONES:
        backbone = create_token_backbone(name, input_size)
        shape, normalization = (input_size, input_size), Normalization((0.0,), (1.0,))
        spec = TokenSpec(shape, 16, "random", normalization, backbone.num_codes)
        return Generator(backbone, MaskedTokens(), spec, None, 0)
    backbone = create_backbone(name, input_size=input_size)
    objective = Diffusion() if name.startswith("DiT") else Flow()
    spec = LatentSpec((backbone.in_channels, input_size, input_size), 8, "random", Normalization((0.0,), (0.18215,)))
    return Generator(backbone, objective, spec, None, 0)


def random_data(spec: LatentSpec, batch_size: int) -> torch.Tensor:
    """Latents [B, C, h, w], or tokens [B, h, w]."""
    if isinstance(spec, TokenSpec):
        return torch.randint(spec.num_codes, (batch_size, *spec.shape))
    return torch.randn(batch_size, *spec.shape)

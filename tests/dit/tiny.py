"""The smallest generators that the tests of sampling share: random weights, nothing at zero."""

from pathlib import Path

import torch

from dit.backbones import DiT, SiT
from dit.checkpoints import Generator, describe_generator
from dit.objectives import Diffusion, Flow
from eqvae.autoencoders import KLAutoencoder
from eqvae.latents import LatentSpec
from tests.eqvae.tiny import tiny_autoencoder

SIZES = {"input_size": 4, "patch_size": 2, "in_channels": 4, "hidden_size": 16, "depth": 2, "num_heads": 2}


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Small random numbers in place of every trained weight, so that every key counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "pos_embed":
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


def tiny_generator(family: type[DiT] = SiT, autoencoder: KLAutoencoder | None = None, **config) -> Generator:
    """4 x 4 latents of 4 channels, 5 classes; flow for SiT, diffusion for DiT."""
    backbone = randomize(family(**(SIZES | {"num_classes": 5} | config)))
    objective = Flow() if family is SiT else Diffusion(learn_sigma=backbone.config["learn_sigma"])
    spec = LatentSpec.of(autoencoder or tiny_autoencoder(), (4, 4, 4))
    return Generator(backbone, objective, spec, None, 7)


def save_generator(generator: Generator, autoencoder: str | None, path: Path) -> Path:
    """A checkpoint as training writes it, without the state of training."""
    weights = {f"backbone.{name}": value for name, value in generator.backbone.state_dict().items()}
    about = describe_generator(generator.backbone, generator.objective, generator.spec, autoencoder)
    torch.save({"generator": about, "state_dict": weights, "global_step": generator.num_steps}, path)
    return path

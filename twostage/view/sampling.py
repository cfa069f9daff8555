"""Samples of several generators from the same noise."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dit.checkpoints import Generator, load_generator
from dit.generation import make_images, require_autoencoder
from dit.labels import choose_labels
from dit.samplers import SamplingSettings
from eqvae.autoencoders import Autoencoder, load_autoencoder


@dataclass(frozen=True)
class Decoding:
    """A generator with the autoencoder that decodes what it makes."""

    generator: Generator
    autoencoder: Autoencoder


def load_generators(
    checkpoints: Iterable[str], autoencoders: Mapping[str, Autoencoder], device: str | torch.device
) -> dict[str, Decoding]:
    """Generators by the paths of their checkpoints.

    Args:
        checkpoints: of stage 2.
        autoencoders: that are there already; one that made a generator's latents decodes them, else the one that its
            checkpoint names is loaded.
        device: where to sample.

    Raises:
        ValueError: naming a checkpoint that cannot be read or that no autoencoder is known for.
    """
    return {path: _load(path, autoencoders, torch.device(device)) for path in checkpoints}


def _load(path: str, autoencoders: Mapping[str, Autoencoder], device: torch.device) -> Decoding:
    generator = load_generator(path)
    generator.backbone.to(device)
    made_by = [each for each in autoencoders.values() if generator.spec.difference(each) is None]
    if made_by:
        return Decoding(generator, made_by[0])
    if generator.autoencoder_source is None:
        raise ValueError(f"checkpoint {path} names no autoencoder, and none of those given made its latents")
    autoencoder = load_autoencoder(generator.autoencoder_source).freeze().to(device)
    require_autoencoder(generator, autoencoder)
    return Decoding(generator, autoencoder)


def sample_all(
    generators: Mapping[str, Decoding], num_images: int, labels: str, settings: SamplingSettings
) -> dict[str, Tensor]:
    """uint8 images [N, 3, H, W] of each generator; image i starts from the same noise where latents have one shape.

    Args:
        generators: by their names.
        num_images: N.
        labels: as `dit.labels.choose_labels` takes them.
        settings: the same for all; seed 0 gives the images that `sample.py` makes of these labels.

    Raises:
        ValueError: for labels that one of the generators does not know.
    """
    indices = torch.arange(num_images)
    found = {}
    for name, each in generators.items():
        chosen = choose_labels(num_images, each.generator.num_classes, labels, settings.seed)
        found[name], _ = make_images(each.generator, each.autoencoder, indices, chosen, settings)
    return found

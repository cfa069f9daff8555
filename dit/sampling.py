"""A trained generator and the autoencoder that decodes for it, opened together; and images of the two at once."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dit.checkpoints import Generator, load_generator
from dit.generation import generate_images, require_autoencoder
from dit.labels import choose_labels
from dit.samplers import SamplingSettings
from eqvae.autoencoders import Autoencoder, load_autoencoder

SHARED = {field.name for field in dataclasses.fields(SamplingSettings)}


class Opened(NamedTuple):
    """A generator with its autoencoder, both frozen, and what the latter was loaded from."""

    generator: Generator
    autoencoder: Autoencoder
    source: str | dict[str, Any]


def open_generator(
    checkpoint: str | Path,
    autoencoder: str | Path | None = None,
    *,
    autoencoder_family: str | None = None,
    allow_other_autoencoder: bool = False,
    **options: Any,
) -> Opened:
    """Load a generator and the autoencoder of its latents, which belong to each other.

    Args:
        checkpoint: what `load_generator` takes.
        autoencoder: what `load_autoencoder` takes; None: the one that the checkpoint names.
        autoencoder_family: of a single file whose architecture several share.
        allow_other_autoencoder: see `require_autoencoder`.
        options: of `load_generator`.

    Raises:
        ValueError: if one of them cannot be had, the autoencoder is another one, or an option cannot apply.
    """
    generator = load_generator(checkpoint, **options)
    told = [name for name in ("family", "num_heads") if options.get(name) is not None]
    if told and generator.num_steps is not None:  # of our own training
        raise ValueError(
            f"checkpoint {checkpoint} tells its own {told[0]}, which only a public one does not: leave it out"
        )
    source = generator.autoencoder_source if autoencoder is None else str(autoencoder)
    if source is None:
        raise ValueError(f"checkpoint {checkpoint} names no autoencoder: give one (autoencoder, --autoencoder)")
    config = {"family": autoencoder_family} if autoencoder_family else None
    loaded = load_autoencoder(source, config=config).freeze()
    generator.spec = generator.spec.completed(loaded)
    require_autoencoder(generator, loaded, allow_other_autoencoder)
    return Opened(generator, loaded, source)


def sample(
    checkpoint: str | Path,
    num_images: int = 100,
    labels: str | Sequence[int] = "balanced",
    *,
    autoencoder: str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 100,
    **settings: Any,
) -> Tensor:
    """Images of a trained generator: the same that `sample.py` writes with the same settings.

    Args:
        checkpoint: of a generator, such as `train_generator` returns.
        num_images: how many; all are kept in memory.
        labels: as of `dit.labels.choose_labels`, or a list of class numbers, which are repeated.
        autoencoder: that decodes; None: the one that the checkpoint names.
        device: where to sample; None: a GPU where there is one.
        batch_size: images at a time on a GPU.
        settings: of `SamplingSettings`, and of the sampler by name: guidance_scale=2.5, sampler="euler", seed=1.

    Returns:
        uint8 [N, 3, H, W].

    Raises:
        ValueError: as of `open_generator` and of the settings, in one line.
    """
    if num_images < 1 or batch_size < 1:
        raise ValueError(f"num_images and batch_size must be at least 1, got {num_images} and {batch_size}")
    own = {name: value for name, value in settings.items() if name not in SHARED}
    shared = {name: value for name, value in settings.items() if name in SHARED - {"options"}}
    chosen = SamplingSettings(**shared, options=dict(settings.get("options", {})) | own)
    generator, decoder, _ = open_generator(checkpoint, autoencoder)
    generator.backbone.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    how = labels if isinstance(labels, str) else ",".join(str(int(label)) for label in labels)
    classes = choose_labels(num_images, generator.num_classes, how, chosen.seed)
    return torch.cat(list(generate_images(generator, decoder, classes, chosen, batch_size)))

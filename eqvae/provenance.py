"""What an export says of the training behind it: loss in words, amounts, data; plain values, and no path.

Each stage hands its own module; the config's name is known where `train.py` was given one.
"""

from pathlib import Path
from typing import Any, Protocol

from eqvae.autoencoders import Autoencoder
from eqvae.autoencoders.places import is_hub_id
from eqvae.cards import last_name
from eqvae.data.sources import InMemorySource
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.regularizers import Regularizers
from eqvae.starting import TrainingStart


class TrainsAutoencoder(Protocol):
    """What a module tells of how it trains an autoencoder."""

    config_name: str | None
    autoencoder: Autoencoder
    trainable: str
    regularizers: Regularizers
    reconstruction: ReconstructionLoss
    adversarial: AdversarialLoss | None
    kl_weight: float
    training_start: TrainingStart
    seed: int


def describe_recipe(module: TrainsAutoencoder, data: Any) -> dict[str, Any]:
    """How an autoencoder is trained.

    Args:
        module: that trains it.
        data: data module of the training images.
    """
    start = module.training_start
    rate = f"{start.learning_rate:g}" if isinstance(start.learning_rate, float | int) else start.learning_rate
    return {
        "config": module.config_name,
        "trained": "all of it" if module.trainable == "all" else "the decoder alone",
        "regularizers": [regularizer.describe() for regularizer in module.regularizers],
        "loss": _loss_terms(module),
        "global_batch_size": getattr(data, "global_batch_size", None),
        "learning_rate": rate + (" x devices x images x accumulated batches" if start.scale else ""),
        "seed": module.seed,
    }


def _loss_terms(module: TrainsAutoencoder) -> list[str]:
    """In words, without what regularizers add."""
    pixels, critic = module.reconstruction, module.adversarial
    terms = [f"{pixels.pixel.upper()} distance of pixels ({pixels.reduction})"]
    if pixels.distance is not None:
        terms.append(f"perceptual distance {pixels.perceptual} x {pixels.perceptual_weight:g}")
    if module.autoencoder.num_codes:
        terms.append("codebook and commitment loss")
    elif module.autoencoder.draws:
        terms.append(f"divergence from a standard normal x {module.kl_weight:g}")
    if critic is not None:
        terms.append(f"PatchGAN critic ({critic.kind}) x {critic.weight:g} from step {critic.start_step:,}")
    return terms


def describe_data(data: Any) -> dict[str, Any]:
    """Name, number and side of the training images of a data module; nothing of one that does not tell."""
    source = getattr(data, "sources", {}).get("train")
    if source is None:
        return {}
    size = source[0][0].shape[-1]
    return {"name": source_name(source), "num_images": len(source), "image_size": size}


def source_name(source: Any) -> str:
    """What people call a source of images: its own name, its id on the hub, or the name of the folder that it reads."""
    while isinstance(source, InMemorySource):
        source = source.source
    if paths := getattr(source, "paths", None):
        return Path(paths[0]).absolute().parent.name
    if is_hub_id(dataset := str(getattr(source, "path", ""))):
        return dataset
    known = (getattr(source, name, None) for name in ("name", "root", "file", "path"))
    place = next((place for place in known if place is not None), type(source).__name__)
    return last_name(str(place))

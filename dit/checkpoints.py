"""Trained generators in files: what a checkpoint says of itself, and how it is rebuilt."""

import argparse
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dit.backbones import BACKBONES
from dit.backbones.interface import config_of
from dit.objectives import OBJECTIVES, Objective
from dit.public.diffusers_layout import (
    PIPELINE,
    is_folder_of_diffusers,
    read_diffusers_folder,
    transformer_weights,
)
from dit.public.transformer import public_latents, public_objective, read_public_backbone
from eqvae.autoencoders import load_autoencoder
from eqvae.files import sha256_of_file
from eqvae.latents import LatentSpec
from eqvae.latents.learned import IMAGES
from eqvae.plugins import find_class
from eqvae.training.averaging import averaged_weights
from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.settings import SETTINGS
from eqvae.training.sharding import plain_class

BACKBONE_PREFIX = "backbone."


@dataclasses.dataclass
class Generator:
    """A trained generator, ready to sample.

    Args:
        backbone: in evaluation mode, with averaged weights.
        objective: it was trained with.
        spec: of the latents it makes.
        autoencoder_source: folder or hub id of the autoencoder that decodes them.
        num_steps: training steps behind the weights; None where a public checkpoint does not tell.
        settings: of the run that trained it (`eqvae.training.settings`); None where the checkpoint has none.
        precision: that the backbone samples in, "float32", or "bfloat16" by autocast with float32 weights.
        class_names: of the images it has learned; None where they have none, or the checkpoint does not tell.
    """

    backbone: nn.Module
    objective: Objective
    spec: LatentSpec
    autoencoder_source: str | dict[str, Any] | None
    num_steps: int | None
    settings: dict[str, Any] | None = None
    precision: str = "float32"
    class_names: list[str] | None = None

    @property
    def num_classes(self) -> int:
        return config_of(self.backbone)["num_classes"]

    @property
    def default_sampler(self) -> str:
        return self.objective.default_sampler


def describe_generator(
    backbone: nn.Module, objective: Objective, spec: LatentSpec, autoencoder: str | dict[str, Any] | None
) -> dict[str, Any]:
    """Plain values from which `load_generator` rebuilds it; kept in every checkpoint."""
    return {
        "backbone": {"name": _name_of(plain_class(backbone), BACKBONES), "config": dict(config_of(backbone))},
        "objective": {"name": _name_of(type(objective), OBJECTIVES), "config": dict(objective.config)},
        "latents": spec.to_dict(),
        "autoencoder": autoencoder,
    }


def _name_of(kind: type, known: dict[str, type]) -> str:
    """The name of one of our classes, the path of another's."""
    return kind.__name__ if known.get(kind.__name__) is kind else f"{kind.__module__}.{kind.__qualname__}"


def _build(about: dict[str, Any], known: dict[str, type], path: str | Path) -> Any:
    """What `_name_of` named, with its config."""
    if about["name"] in known:
        return known[about["name"]](**about["config"])
    try:
        return find_class(about["name"])(**about["config"])
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}") from None


def sha256_of_checkpoint(path: str | Path) -> str:
    """Of a file; of a folder of diffusers, that of its transformer's weights, which are several files where large."""
    if not Path(path).is_dir():
        return sha256_of_file(Path(path))
    hashes = [sha256_of_file(each) for each in transformer_weights(path)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What is in a checkpoint of stage 2 or a public `.pt`; nothing in it is executed.

    Raises:
        ValueError: naming the file, if it is missing, damaged or of something else.
    """
    # Training scripts keep their arguments in a namespace: a bag of attributes, which runs nothing.
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint, dict):
        raise ValueError(f"checkpoint {path} holds no state dict but a {type(checkpoint).__name__}")
    return checkpoint


def load_generator(
    path: str | Path, family: str | None = None, num_heads: int | None = None, ema_decay: float | None = None
) -> Generator:
    """The generator of a Lightning checkpoint, with its averaged weights where there are any, or of others' files.

    Args:
        path: `.ckpt` of stage 2; a checkpoint of the public DiT, SiT, REPA or LightningDiT, recognized by its keys; or
            a folder of diffusers, of a `DiTPipeline`, whose `vae` then decodes, or of its transformer alone.
        family: of a public checkpoint, "DiT" (diffusion) or "SiT" (flow), which it does not tell; REPA's and
            LightningDiT's tell it.
        num_heads: of a public checkpoint of a width that was not published.
        ema_decay: which moving average, where the run kept several; None: the first.

    Raises:
        ValueError: naming the file, if it is missing, damaged or of something else, holds no such average, is of a
            class whose package has not been named (`eqvae.plugins`), or if an option says nothing about it.
    """
    if is_folder_of_diffusers(path):
        _require_untold(path, family=family, num_heads=num_heads, ema_decay=ema_decay)
        return _of_diffusers(Path(path))
    checkpoint = read_checkpoint(path)
    if "generator" not in checkpoint and "pytorch-lightning_version" in checkpoint:
        raise ValueError(f"checkpoint {path} is of a training, but of no generator: give one of stage 2")
    if "generator" not in checkpoint:
        _require_untold(path, ema_decay=ema_decay)
        backbone = read_public_backbone(checkpoint, path, family, num_heads)
        objective = public_objective(backbone, checkpoint.get("args"), path)
        return Generator(backbone, objective, public_latents(backbone), None, None)
    try:
        state = averaged_weights(checkpoint, ema_decay)
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}") from None
    about = checkpoint["generator"]
    backbone = _build(about["backbone"], BACKBONES, path)
    weights = {
        name.removeprefix(BACKBONE_PREFIX): value for name, value in state.items() if name.startswith(BACKBONE_PREFIX)
    }
    backbone.load_state_dict(weights)
    return Generator(
        backbone.eval().requires_grad_(False),
        _build(about["objective"], OBJECTIVES, path),
        _latents(about["latents"], path),
        about["autoencoder"],
        checkpoint["global_step"],
        checkpoint.get(SETTINGS),
        class_names=checkpoint.get(IMAGES, {}).get("class_names"),
    )


def _require_untold(path: str | Path, **options: Any) -> None:
    """Refuse options that cannot act on files of this kind."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"checkpoint {path}: {name} {value} is of checkpoints of other kinds: leave it out")


def _of_diffusers(folder: Path) -> Generator:
    """The generator of a folder of diffusers; a pipeline's latents are those of its own autoencoder."""
    backbone, objective = read_diffusers_folder(folder)
    spec = public_latents(backbone)
    if not (folder / PIPELINE).is_file():
        return Generator(backbone, objective, spec, None, None)
    place = str(folder / "vae")
    return Generator(backbone, objective, LatentSpec.of(load_autoencoder(place), spec.shape), place, None)


def _latents(about: dict[str, Any], path: str | Path) -> LatentSpec:
    try:
        return LatentSpec.from_dict(about)
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: its latents cannot be: {error}") from None

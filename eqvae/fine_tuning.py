"""Stage 1 from Python: fine-tune an autoencoder by a recipe, and cache latents with what came of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from eqvae.autoencoders import Autoencoder, load_autoencoder
from eqvae.bases import load_config
from eqvae.data.opening import source_config
from eqvae.latents import LatentCache, open_cache
from eqvae.packaged import find_config
from eqvae.training.from_python import begin_flags, given, run_training

RECIPES = ("eqvae",)
SPLITS = ("train", "validation")


def fine_tune(
    config: str | Path,
    root: str | Path | None = None,
    *,
    autoencoder: str | Path | None = None,
    images: str | None = None,
    held_out: str | None = None,
    image_size: int | None = None,
    max_steps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Autoencoder:
    """What `train.py fit` does in stage 1: fine-tune an autoencoder, and leave its folder in that of the run.

    What is left out is as the config has it.

    Args:
        config: name of a packaged config of stage 1, such as "tiny-shapes", or the path of one.
        root: folder of the run.
        autoencoder: to start from, what `load_autoencoder` takes.
        images: to train on, a word of `open_source`.
        held_out: images to measure on, likewise; without them those to train on, where `images` are given.
        image_size: side of these images in pixels.
        max_steps: optimizer steps.
        overrides: any other keys of the config, dotted: {"model.init_args.learning_rate": 1e-4}.
        resume: go on from the newest checkpoint in the folder.
        overwrite: remove an earlier run of the folder first.

    Returns:
        The fine-tuned autoencoder, frozen; its `source` is the folder.

    Raises:
        ValueError: in one line, as the command: unknown keys, values that cannot be, a folder that holds a run.
    """
    settings = _settings(config, root, autoencoder, images, held_out, image_size)
    settings |= given({"trainer.max_steps": max_steps}) | dict(overrides or {})
    cli = run_training("fit", config, RECIPES, settings, *begin_flags(resume, overwrite))
    return load_autoencoder(cli.model.export_path(cli.trainer.default_root_dir)).freeze()


def cache_latents(
    config: str | Path,
    root: str | Path | None = None,
    *,
    autoencoder: str | Path | None = None,
    images: str | None = None,
    held_out: str | None = None,
    image_size: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> LatentCache:
    """What `train.py predict` does: write the latents of all images to `latents` in the folder of the run.

    The autoencoder is the one that a run in this folder has left; where none has begun, the one that is named. Latents
    of the held-out images, where there are some, lie beside it in `latents-validation`. A cache that is there already
    is only read through.

    Args:
        config, root, autoencoder, images, held_out, image_size, overrides: as of `fine_tune`.

    Raises:
        ValueError: in one line, as the command: also where the folder holds latents of other images.
    """
    settings = _settings(config, root, autoencoder, images, held_out, image_size) | dict(overrides or {})
    cli = run_training("predict", config, RECIPES, settings)
    return open_cache(cli.model.cache.path(cli.trainer.default_root_dir))


def _settings(
    config: str | Path,
    root: str | Path | None,
    autoencoder: str | Path | None,
    images: str | None,
    held_out: str | None,
    image_size: int | None,
) -> dict[str, Any]:
    """Dotted keys of a config of stage 1 for what is given by name."""
    settings = given({"trainer.default_root_dir": root, "model.init_args.autoencoder": autoencoder})
    if images is None and held_out is None:
        return settings | (dict.fromkeys(_side_keys(config), image_size) if image_size else {})
    side = image_size or _own_side(config)
    sources = {"train": images, "validation": held_out}
    settings |= {f"data.init_args.{name}": source_config(where, side) for name, where in given(sources).items()}
    return settings | ({"data.init_args.validation": None} if held_out is None else {})


def _side_keys(config: str | Path) -> list[str]:
    """Dotted keys of the sides of a config's images: of the source that each split reads, behind those that wrap it.

    That of the training images is always there.
    """
    settings, keys = load_config(find_config(config, RECIPES)), []
    for key in (f"data.init_args.{split}" for split in SPLITS):
        while OmegaConf.select(settings, f"{key}.init_args.source"):
            key += ".init_args.source"
        keys += [f"{key}.init_args.image_size"] if OmegaConf.select(settings, key) or not keys else []
    return keys


def _own_side(config: str | Path) -> int:
    """Side of the training images of a config.

    Raises:
        ValueError: if it states none.
    """
    settings = load_config(find_config(config, RECIPES))
    side = next((OmegaConf.select(settings, key) for key in _side_keys(config)), None)
    if side is None:
        raise ValueError(f"config {config} states no size of images: give image_size")
    return int(side)

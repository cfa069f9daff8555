"""The tiny recipes through the command line of `train.py`, with few images and small batches."""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from eqvae.autoencoders import Codes, VQAutoencoder
from eqvae.bases import load_config
from tests.golden.recordings import one_thread
from twostage.cli import train

NUM_STEPS = 100
NUM_IMAGES = 64
BATCH_SIZE, BATCH_SIZE_OF_IMAGES, IMAGE_SIZE = 4, 2, 16  # the recipes' own would take minutes
CONFIGS = Path(__file__).parents[2] / "configs"
TRAINED = ("eqvae.module.AutoencoderModule", "dit.module.GeneratorModule")
RECIPES = {
    path.stem: path
    for stage in ("eqvae", "dit")
    for path in sorted(CONFIGS.glob(f"{stage}/tiny-*.yaml"))
    if load_config(path).model.class_path in TRAINED
}

QUIET = {
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
}
IMAGES = [f"data.init_args.{part}.init_args" for part in ("train", "validation")]
FEW_IMAGES = {f"{part}.num_images": NUM_IMAGES for part in IMAGES}
SMALL_IMAGES = FEW_IMAGES | {f"{part}.image_size": IMAGE_SIZE for part in IMAGES}
FIT = QUIET | {
    "trainer.limit_val_batches": 0,
    "trainer.log_every_n_steps": 1,
    "trainer.logger.class_path": "lightning.pytorch.loggers.CSVLogger",
}
PREDICT = QUIET | FEW_IMAGES | {"trainer.logger": "false"}


def comparable_steps(name: str) -> int:
    """First steps in which every processor gives nearly the same losses; see the package's docstring."""
    return 5 if is_stage_one(name) else NUM_STEPS


def is_stage_one(name: str) -> bool:
    return RECIPES[name].parent.name == "eqvae"


@dataclass(frozen=True)
class Caches:
    """Folders that `predict` wrote for the recipes of stage 2."""

    latents: Path
    features: Path
    tokens: Path


def write_caches(folder: Path) -> Caches:
    """Latents of the packaged autoencoder, features and tokens, the same on every processor within float32's last bits.

    Latents and features are kept in float32, since float16 would turn a last bit into 2^-11 here and there.
    """
    latents, tokens = (PREDICT | {"trainer.default_root_dir": folder / name} for name in ("kl", "vq"))
    _command("predict", CONFIGS / "eqvae/tiny-shapes.yaml", latents | {"model.init_args.cache.dtype": "float32"})
    _command("predict", CONFIGS / "dit/tiny-repa-features.yaml", latents | {"model.init_args.dtype": "float32"})
    with mock.patch.object(VQAutoencoder, "encode", mean_colours):
        _command("predict", CONFIGS / "eqvae/tiny-vq.yaml", tokens)
    return Caches(folder / "kl/latents", folder / "kl/features", folder / "vq/latents")


def mean_colours(autoencoder: VQAutoencoder, images: Tensor) -> Codes:
    """Codes by the mean colour of each block of pixels, in whole numbers.

    Nearest codebook vectors may change with the last bits of an encoder, and one token more or less of some hundred
    would show in a loss.
    """
    bytes_ = ((images + 1) * 127.5).round().long()
    side = autoencoder.downsampling_factor
    sums = bytes_.unfold(2, side, side).unfold(3, side, side).sum((-2, -1))  # [B, 3, h, w]
    level = (sums * torch.tensor([4, 8, 4]).view(3, 1, 1)) // (256 * side * side)  # 2, 3 and 2 bits
    indices = (level * torch.tensor([32, 4, 1]).view(3, 1, 1)).sum(1)
    return Codes(indices, autoencoder.lookup(indices), autoencoder.lookup(indices))


def train_recipe(
    name: str, folder: Path, caches: Caches | None, num_steps: int = NUM_STEPS, overrides: dict | None = None
) -> dict[str, list[float]]:
    """Every loss of the first steps of `train.py fit`, by its name in the log; stage 1 needs no caches."""
    # Schedules are those of the whole run, however soon it ends.
    options = FIT | {"trainer.max_steps": NUM_STEPS, "trainer.limit_train_batches": num_steps}
    options |= {"trainer.default_root_dir": folder, "trainer.logger.init_args.save_dir": folder}
    if is_stage_one(name):
        options |= SMALL_IMAGES | {"data.init_args.global_batch_size": BATCH_SIZE_OF_IMAGES}
        options |= {"model.init_args.num_normalization_images": NUM_IMAGES}
    else:
        assert caches is not None, "stage 2 reads them"
        cache = caches.tokens if name == "tiny-maskgit" else caches.latents
        options |= {"data.init_args.cache": cache, "data.init_args.global_batch_size": BATCH_SIZE}
        options |= {"data.init_args.validation_cache": "null"}
        if name == "tiny-repa":
            options |= {"data.init_args.features": caches.features}
    _command("fit", RECIPES[name], options | (overrides or {}))
    (table,) = folder.rglob("metrics.csv")
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    names = sorted(column for column in rows[0] if column.startswith("train/"))
    return {name: [float(row[name]) for row in rows] for name in names}


def _command(subcommand: str, config: Path, options: dict) -> None:
    words = [f"--{key}={value}" for key, value in options.items()]
    with mock.patch.object(sys, "argv", ["train.py", subcommand, "--config", str(config), *words]), one_thread():
        train.main()

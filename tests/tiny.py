"""Runs that take seconds: command lines of both stages, reduced by overrides."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch

from eqvae.training.cli import TrainCLI

TINY_AUTOENCODER = {
    "sample_size": 16,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [8, 8],
    "latent_channels": 4,
    "norm_num_groups": 4,
}
ONE_LEVEL = {"block_out_channels": [8], "down_block_types": ["DownEncoderBlock2D"], "mid_block_add_attention": False}
ONE_LEVEL |= {"up_block_types": ["UpDecoderBlock2D"]}  # over another's config: a third of its operations, no resizing
PACKAGED = {"model.init_args.autoencoder": "shapes-f4c8"}  # the recipe's own: a step takes some times as long
STAGE_ONE = {
    "model.init_args.autoencoder": json.dumps(TINY_AUTOENCODER),
    "trainer.max_steps": 6,
    "trainer.limit_val_batches": 1,
    "model.init_args.num_normalization_images": 32,
    "model.init_args.evaluation.num_equivariance_images": 4,
    "data.init_args.train.init_args.num_images": 48,
    "data.init_args.validation.init_args.num_images": 32,
    "data.init_args.global_batch_size": 4,
    "data.init_args.evaluation_batch_size": 16,
}
WITHOUT_VALIDATION = STAGE_ONE | {"trainer.limit_val_batches": 0}  # which takes a third of it all
STAGE_TWO = {
    "trainer.max_steps": 6,
    "model.init_args.backbone.init_args.hidden_size": 16,
    "model.init_args.backbone.init_args.depth": 1,
    "model.init_args.backbone.init_args.num_heads": 2,
    "data.init_args.global_batch_size": 4,
}
# Loss scaling on any machine: Lightning turns precision 16-mixed into bf16-mixed on a CPU.
FLOAT16 = {
    "trainer.precision": "null",
    "trainer.plugins": "[{class_path: eqvae.training.checkpoints.AtomicCheckpointIO}, {class_path: "
    "lightning.pytorch.plugins.MixedPrecision, init_args: {precision: 16-mixed, device: cpu}}]",
}


@cache
def attends_in_bfloat16() -> bool:
    """Whether torch has an attention in bfloat16 here: not where a processor with AMX is told to be one of AVX2."""
    try:
        torch.nn.functional.scaled_dot_product_attention(*torch.zeros(3, 1, 1, 64, 8, dtype=torch.bfloat16))
    except RuntimeError:
        return False
    return True


needs_bfloat16 = pytest.mark.skipif(not attends_in_bfloat16(), reason="torch has no bfloat16 attention here")
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


def options(overrides: dict) -> list[str]:
    """Overrides as command-line options."""
    return [f"--{key}={value}" for key, value in overrides.items()]


def train(*words: object) -> TrainCLI:
    """What `train.py WORDS` does, in this process, without previews where none are asked for.

    Args:
        words: options, and dictionaries of overrides.
    """
    arguments = [word for given in words for word in (options(given) if isinstance(given, dict) else [str(given)])]
    if arguments[0] == "fit" and not any(word.startswith("--previews") for word in arguments):
        arguments.append("--previews=0")
    return TrainCLI(arguments, trainer_defaults=QUIET)


def stage_one(folder: Path, overrides: dict | None = None, **defaults) -> TrainCLI:
    """Command line of a small fine-tuning of the packaged autoencoder."""
    folders = {"trainer.default_root_dir": folder}
    settings = STAGE_ONE | folders | (overrides or {})
    return _cli("configs/eqvae/tiny-shapes.yaml", settings, defaults)


def stage_two(folder: Path, cache: Path, overrides: dict | None = None, **defaults) -> TrainCLI:
    """Command line of a small generator on a latent cache."""
    folders = {"trainer.default_root_dir": folder, "data.init_args.cache": cache}
    return _cli("configs/dit/tiny-sit.yaml", STAGE_TWO | folders | (overrides or {}), defaults)


def _cli(config: str, overrides: dict, defaults: dict) -> TrainCLI:
    return TrainCLI(["--config", config, *options(overrides)], run=False, trainer_defaults=QUIET | defaults)

"""The files of a comparison: two configs of its own, and the sweep that is run with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from twostage.compare.budget import GRID_IMAGES, SIZES, Rung
from twostage.compare.contestants import AGAIN, DESCRIPTIONS, ORDINARY, Contestant, Field
from twostage.compare.images import Images

AUTOENCODER, GENERATOR, SWEEP = "autoencoder.yaml", "generator.yaml", "comparison.yaml"

SMALL_WEIGHTS = 10_000_000  # autoencoders of fewer learn at the rate of the packaged recipes
SMALL_RATE, LARGE_RATE = 1e-3, 16 * 4.5e-6  # the latter: latent-diffusion's, times the images of a step
NORMALIZATION_IMAGES = 500
RECONSTRUCTION = {"perceptual": "efficientnet_lite0", "perceptual_weight": 1.0}  # as scenes.yaml
DIAGNOSIS_IMAGES = 32  # autoencoders are not what a comparison is about
SAMPLING = {"sampler": "euler", "num_inference_steps": 10}
AVERAGED_SHARE = 1 / 8  # of the training, that weights are averaged over: half of what precedes the first measurement
WARMUP_SHARE = 1 / 20
OTHER_SEEDS = 1_000_000  # added to those of an arm's fine-tuning; farther than comparisons have seeds
NOTES = {
    AUTOENCODER: "Images of the comparison, and how autoencoders are fine-tuned for it.",
    GENERATOR: "The generator that learns the latents of every autoencoder of the comparison.",
    SWEEP: "What `compare.py` runs; `sweep.py --config` with this file gives the same, and goes on to the most seeds.",
}


def contents(
    folder: Path, field: Field, images: Images, rung: Rung, tuning_steps: int, num_workers: int, first_seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The values of each file of a comparison, by its name.

    Args:
        folder: where the files will lie; also that of the sweep's report, the store of its parts lying beside it.
        tuning_steps: of fine-tuned autoencoders.
        num_workers: processes side by side.
        first_seed: the others follow it.
    """
    return {
        AUTOENCODER: _autoencoder(folder, field, images, tuning_steps),
        GENERATOR: _generator(folder, field, images, rung),
        SWEEP: _sweep(folder, field, rung, num_workers, first_seed),
    }


def write_files(folder: Path, files: Mapping[str, dict[str, Any]]) -> None:
    """Write the files of `contents` as YAML, each with a line on what it is."""
    for name, content in files.items():
        text = yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)
        (folder / name).write_text(f"# {NOTES[name]}\n{text}")


def _autoencoder(folder: Path, field: Field, images: Images, tuning_steps: int) -> dict[str, Any]:
    start = (field.trained or field.contestants)[0].source
    settings = {
        "autoencoder": start,
        "transforms": "paper",
        "reconstruction": RECONSTRUCTION,
        "learning_rate": SMALL_RATE if field.num_weights < SMALL_WEIGHTS else LARGE_RATE,
        "kl_weight": 1e-6,
        "evaluation": {"num_equivariance_images": DIAGNOSIS_IMAGES},
        "num_normalization_images": min(NORMALIZATION_IMAGES, images.num_train),
    }
    sources = {"train": images.train, "validation": images.held_out}
    return {
        "base": "autoencoder-32",
        "trainer": {
            "max_steps": tuning_steps,
            "default_root_dir": str(folder / "autoencoder"),
            "limit_val_batches": 1,
            "callbacks": [_checkpoints(tuning_steps)],
        },
        "model": {"init_args": settings},
        "data": {"init_args": sources | {"evaluation_batch_size": DIAGNOSIS_IMAGES}},
    }


def _generator(folder: Path, field: Field, images: Images, rung: Rung) -> dict[str, Any]:
    size, (channels, side, _) = SIZES[rung.size], field.latent_shape
    backbone = {
        "input_size": side,
        "patch_size": 2 if side % 2 == 0 and side >= 8 else 1,
        "in_channels": channels,
        "num_classes": images.num_classes,
        "hidden_size": size.hidden_size,
        "depth": size.depth,
        "num_heads": size.num_heads,
    }
    decay = round(1 - 1 / max(1.0, AVERAGED_SHARE * rung.num_steps), 5)
    average = {"class_path": "eqvae.training.averaging.ExponentialMovingAverage", "init_args": {"decay": decay}}
    return {
        "base": "tiny-sit",
        "trainer": {
            "max_steps": rung.num_steps,
            "default_root_dir": str(folder / "generator"),
            "callbacks": [average, _checkpoints(rung.num_steps)],
        },
        "model": {
            "init_args": {
                "backbone": {"class_path": "dit.backbones.SiT", "init_args": backbone},
                "learning_rate": size.learning_rate,
                "warmup_steps": round(WARMUP_SHARE * rung.num_steps),
            }
        },
    }


def _checkpoints(num_steps: int) -> dict[str, Any]:
    """One at the end: a sweep saves those that it measures, from which a stopped training goes on."""
    name = "lightning.pytorch.callbacks.ModelCheckpoint"
    return {"class_path": name, "init_args": {"every_n_train_steps": num_steps}}


def _sweep(folder: Path, field: Field, rung: Rung, num_workers: int, first_seed: int) -> dict[str, Any]:
    words = [each.word for each in field.contestants]
    start = {"start": {"autoencoder": field.trained[0].source}} if field.trained else {}
    return {
        "name": folder.name,
        "title": f"{words[0]} or {' or '.join(words[1:])}?",
        "question": f"Does a small SiT learn faster on the latents of {' or '.join(words[1:])} than of {words[0]}?",
        "control": field.contestants[0].name,
        **start,
        "autoencoders": {each.name: _arm(each, folder) for each in field.contestants},
        "generators": {"sit": {"label": SIZES[rung.size].label, "config": str(folder / GENERATOR)}},
        "seeds": list(range(first_seed, first_seed + rung.num_seeds)),
        "until_decided": True,
        "evaluation": {
            "at_steps": rung.at_steps,
            "num_images": rung.num_images,
            "metrics": ["fd"],
            "sampling": SAMPLING,
            "grid_images": GRID_IMAGES,
        },
        "executor": {"num_workers": num_workers},
        "root": str(folder.parent),
    }


def _arm(contestant: Contestant, folder: Path) -> dict[str, Any]:
    arm: dict[str, Any] = {"label": contestant.word, "description": DESCRIPTIONS[contestant.kind]}
    arm["config"] = str(folder / AUTOENCODER)
    if not contestant.is_trained:
        arm["autoencoder"] = contestant.source
    if contestant.kind in (ORDINARY, AGAIN):
        arm["overrides"] = {"model.init_args.transforms": None}
    if contestant.kind == AGAIN:
        arm["seed_offset"] = OTHER_SEEDS
    return arm

"""What `sample.py` wrote, and what comes next: its samples beside real images, where those are known."""

import sys
from pathlib import Path

from eqvae.data.opening import PROCEDURAL, open_source
from eqvae.evaluation.sample_folders import ARRAY, GRID, single_image
from eqvae.latents.manifest import read_manifest
from eqvae.training.checkpoints import read_part
from eqvae.training.settings import SETTINGS
from twostage.commands.ending import command, end, look_at

SEEDS = range(10)  # of procedural images that are looked for


def end_sampling(folder: Path, checkpoint: str) -> None:
    """Print the last two lines: what can be measured next depends on what was written, and what is known of it."""
    if not (folder / ARRAY).is_file() and not single_image(folder, 0).is_file():
        end(folder / GRID, command("sample", *sys.argv[1:], "--npz"))
        return
    wrote = folder / ARRAY if (folder / ARRAY).is_file() else folder
    reference = held_out_images(checkpoint)
    words = ("generation", "--generated", wrote, "--reference", reference)
    end(wrote, command("evaluate", *words) if reference else look_at((folder / GRID).resolve()))


def held_out_images(checkpoint: str) -> str | None:
    """The images that a generator was validated on, else those it learned from, in one word; None where it has none.

    The checkpoint names the caches, a cache has the fingerprint of its images: procedural ones can be told by it.
    """
    try:
        data = ((read_part(checkpoint, SETTINGS) or {}).get("data") or {}).get("init_args", {})
        folders = [data[name] for name in ("validation_cache", "cache") if data.get(name)]
        found = (images_of(read_manifest(Path(folder))["dataset"]) for folder in folders if Path(folder).is_dir())
        return next(filter(None, found), None)
    except ValueError:  # of another format than ours, or a cache that is no longer whole
        return None


def images_of(dataset: dict) -> str | None:
    """The word for procedural images that a cache was made of, as `--data` and `--reference` take it."""
    size = dataset.get("image_size")
    if not isinstance(size, int):
        return None
    words = (f"{kind}:{dataset['num_images']}:{seed}" for kind in PROCEDURAL for seed in SEEDS)
    fits = (word for word in words if open_source(word, size).fingerprint() == dataset["fingerprint"])
    return next(fits, None)

"""Stage 2 from Python: train a generator by a recipe on a latent cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqvae.latents import LatentCache
from eqvae.training.from_python import begin_flags, given, run_training
from eqvae.training.last_checkpoint import last_checkpoint

RECIPES = ("dit",)


def train_generator(
    config: str | Path,
    cache: str | Path | LatentCache | None = None,
    root: str | Path | None = None,
    *,
    max_steps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """What `train.py fit` does in stage 2: train a generator on latents.

    What is left out is as the config has it.

    Args:
        config: name of a packaged config of stage 2, such as "tiny-sit", or the path of one.
        cache: of the latents, or its folder. Held-out latents are those that lie beside it, as `cache_latents` leaves
            them; without any the loss on them is not measured.
        root: folder of the run.
        max_steps: optimizer steps.
        overrides: any other keys of the config, dotted: {"model.init_args.learning_rate": 1e-4}.
        resume: go on from the newest checkpoint in the folder.
        overwrite: remove an earlier run of the folder first.

    Returns:
        The path of `last.ckpt`, which `dit.sample` takes.

    Raises:
        ValueError: in one line, as the command: unknown keys, values that cannot be, a folder that holds a run, latents
            of another shape than the backbone's.
    """
    settings = given({"trainer.default_root_dir": root, "trainer.max_steps": max_steps}) | _caches(cache)
    cli = run_training("fit", config, RECIPES, settings | dict(overrides or {}), *begin_flags(resume, overwrite))
    return last_checkpoint(cli.trainer)


def _caches(cache: str | Path | LatentCache | None) -> dict[str, Any]:
    if cache is None:
        return {}
    folder = cache.folder if isinstance(cache, LatentCache) else Path(cache)
    held_out = folder.with_name(f"{folder.name}-validation")
    return {"data.init_args.cache": folder, "data.init_args.validation_cache": held_out if held_out.is_dir() else None}

"""A generator is trained on cached latents: a checkpoint at each evaluation step."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqvae.plugins import find_class
from twostage.configs import common_overrides, resolved_config, value_at
from twostage.graph.node import Node, Progress
from twostage.parts.command import fit, train_cli
from twostage.parts.part import Estimate, Part
from twostage.parts.sizes import batch_size, count_weights
from twostage.parts.training import Clock, ReportProgress, SaveAtSteps, checkpoint_at, resumable_checkpoint

if TYPE_CHECKING:
    from twostage.schema import Trained

BYTES_PER_WEIGHT = 4
TRAINED_COPIES = 4  # of the weights in a checkpoint: themselves, their average, and both moments of AdamW
KEPT_CHECKPOINTS = 2  # beside those of the evaluation steps


def config(part: "Trained", seed: int, max_steps: int) -> dict[str, Any]:
    """The config of stage 2 with the sweep's seed, steps and folders."""
    filled = {
        "trainer.max_steps": max_steps,
        "model.init_args.autoencoder": "{autoencoder}/autoencoder",
        "data.init_args.cache": "{latents}/latents",
        # Losses on different latents do not compare, and what training takes is timed.
        "data.init_args.validation_cache": None,
        "trainer.limit_val_batches": 0,
    }
    return resolved_config(part.config, part.overrides | common_overrides(seed) | filled)


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    callbacks = [ReportProgress(progress), Clock(folder), SaveAtSteps(folder, settings["at_steps"])]
    cli = train_cli(folder, settings["config"], callbacks)
    fit(cli, resumable_checkpoint(folder, settings["at_steps"]))


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    config = node.settings["config"]
    steps = config["trainer"]["max_steps"]
    weights = count_weights(value_at(config, "model.init_args.backbone", {}))
    checkpoints = len(node.settings["at_steps"]) + KEPT_CHECKPOINTS
    size = None if weights is None else weights * BYTES_PER_WEIGHT * TRAINED_COPIES * checkpoints
    return Estimate(steps, steps * batch_size(config), size)


def objective_class(part: "Trained") -> type:
    """The objective that a generator's config names.

    Raises:
        ValueError: if it names none, or one of a package that has not been named at the start.
    """
    objective = value_at(resolved_config(part.config, part.overrides), "model.init_args.objective")
    class_path = objective.get("class_path") if isinstance(objective, dict) else objective
    if not isinstance(class_path, str):
        raise ValueError(f"{part.config} names no model.init_args.objective: give its class_path")
    return find_class(class_path)


def objective_of(part: "Trained") -> Any:
    """The objective of a generator's config; its class alone where the config does not build it here.

    What is wrong with it is the training's to say.

    Raises:
        ValueError: as `objective_class`.
    """
    kind = objective_class(part)
    config = resolved_config(part.config, part.overrides)
    try:
        return kind(**value_at(config, "model.init_args.objective.init_args", {}))
    except (TypeError, ValueError):
        return kind


def num_places(part: "Trained") -> int | None:
    """Places of the grid that a generator's config expects; None where it leaves them to the cache."""
    side = value_at(resolved_config(part.config, part.overrides), "model.init_args.backbone.init_args.input_size")
    return side * side if isinstance(side, int) else None


def latent_shape(config: dict[str, Any]) -> tuple[int, ...] | None:
    """Channels, height and width of the latents that a generator's config expects; None where it does not tell."""
    backbone = value_at(config, "model.init_args.backbone.init_args", {})
    channels, side = (backbone.get(name) for name in ("in_channels", "input_size"))
    if not isinstance(channels, int) or not isinstance(side, int):
        return None
    return channels, side, side


def kept(folder: Path, settings: dict[str, Any]) -> Path:
    """The checkpoint of its last step."""
    return checkpoint_at(folder, settings["config"]["trainer"]["max_steps"])


GENERATOR = Part("generator", run, estimate, trains=True, kept=kept)

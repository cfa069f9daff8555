"""An autoencoder is trained: folder/autoencoder, and a checkpoint at each step that is asked for."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqvae.training.checkpoints import newest_checkpoint
from twostage.configs import NODE, common_overrides, resolved_config
from twostage.graph.node import Node, Progress
from twostage.parts.command import fit, train_cli
from twostage.parts.part import Estimate, Part
from twostage.parts.sizes import autoencoder_bytes, batch_size
from twostage.parts.training import CHECKPOINTS, Clock, ReportProgress, SaveAtSteps, resumable_checkpoint

if TYPE_CHECKING:
    from twostage.schema import Start, Trained

TRAINED_COPIES = 3  # of the weights in a checkpoint: themselves and both moments of Adam
KEPT_CHECKPOINTS = 2  # beside those that are asked for


def config(part: "Trained | Start", seed: int, start: str | None) -> dict[str, Any]:
    """The config of stage 1 with the sweep's seed and folders, `start` being what it starts from (None: its own)."""
    folders = {
        "model.init_args.export_folder": f"{NODE}/autoencoder",
        "model.init_args.cache.folder": f"{NODE}/latents",
    }
    folders |= {"model.init_args.autoencoder": start} if start else {}
    assert part.config is not None, "what trains has one"
    return resolved_config(part.config, part.overrides | common_overrides(seed) | folders)


def measuring_config(part: "Trained") -> dict[str, Any]:
    """The config of work on the finished autoencoder of the role `autoencoder`; the seed is of no consequence there."""
    return config(part, 0, "{autoencoder}/autoencoder")


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    callbacks = [ReportProgress(progress), Clock(folder), SaveAtSteps(folder, settings["at_steps"])]
    cli = train_cli(folder, settings["config"], callbacks)
    fit(cli, resumable_checkpoint(folder, settings["at_steps"]))


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    config = node.settings["config"]
    steps, size = config["trainer"]["max_steps"], autoencoder_bytes(node)
    copies = 1 + TRAINED_COPIES * (KEPT_CHECKPOINTS + len(node.settings["at_steps"]))  # and the exported folder
    return Estimate(steps, steps * batch_size(config), None if size is None else copies * size)


def kept(folder: Path, settings: dict[str, Any]) -> Path | None:
    """The newest: its result is the exported folder, and a longer training goes on from there."""
    return newest_checkpoint(folder / CHECKPOINTS).path


AUTOENCODER = Part("autoencoder", run, estimate, trains=True, kept=kept)

"""What a sweep is made of, one file per kind: how a node of it is described, done, estimated, and what it leaves.

A new kind is one `Part` in a file of its own here, and found by that; the plan says where in a sweep it stands.
"""

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from eqvae.plugins import enable_plugins
from twostage.configs import NODE, fill_folders
from twostage.graph.node import Node, Progress, Work
from twostage.parts.part import Estimate, Part
from twostage.parts.training import CHECKPOINTS

__all__ = ["PARTS", "Estimate", "Part", "WithPlugins", "estimate", "run_node", "superfluous_checkpoints"]


def _found() -> dict[str, Part]:
    """Every part that a file of this folder holds, by name."""
    files = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {value.name: value for file in files for value in vars(file).values() if isinstance(value, Part)}


PARTS = _found()


@dataclass(frozen=True)
class WithPlugins:
    """Work in whose settings classes of some packages may be named; a worker or a job is a process of its own.

    Args:
        work: what is done.
        plugins: names of the packages.
    """

    work: Work
    plugins: tuple[str, ...]

    def __call__(self, *arguments: Any) -> None:
        enable_plugins(self.plugins)
        self.work(*arguments)


def run_node(kind: str, folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Do the work of a node in its folder; texts of the settings that start with `{role}` mean its inputs' folders."""
    PARTS[kind].run(folder, fill_folders(settings, {NODE.strip("{}"): folder} | inputs), inputs, progress)


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    """Cost of a node, `latents` being the shape of a cached latent where it is known."""
    return PARTS[node.kind].estimate(node, latents)


def superfluous_checkpoints(node: Node, folder: Path) -> list[Path]:
    """Checkpoints of a finished training but the one that stays; none where that one is missing."""
    part = PARTS[node.kind]
    stays = part.kept(folder, node.settings) if part.kept else None
    if stays is None or not stays.is_file():
        return []
    return sorted(path for path in (folder / CHECKPOINTS).glob("*.ckpt") if path != stays)

"""What a sweep is made of, one file per kind: how a node of it is described, done, estimated, and what it leaves.

A new kind is one `Part` in a file of its own, named in `PARTS`; the plan says where in a sweep it stands.
"""

from pathlib import Path
from typing import Any

from twostage.configs import NODE, fill_folders
from twostage.graph.node import Node, Progress
from twostage.parts.autoencoder import AUTOENCODER
from twostage.parts.diagnostics import DIAGNOSTICS
from twostage.parts.evaluation import EVALUATION
from twostage.parts.generator import GENERATOR
from twostage.parts.latents import LATENTS
from twostage.parts.part import Estimate, Part
from twostage.parts.ready import READY
from twostage.parts.reference import REFERENCE
from twostage.parts.snapshot import SNAPSHOT

PARTS: dict[str, Part] = {
    part.name: part for part in (READY, AUTOENCODER, SNAPSHOT, DIAGNOSTICS, LATENTS, GENERATOR, REFERENCE, EVALUATION)
}

__all__ = ["PARTS", "Estimate", "Part", "estimate", "run_node"]


def run_node(kind: str, folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    """Do the work of a node in its folder; texts of the settings that start with `{role}` mean its inputs' folders."""
    PARTS[kind].run(folder, fill_folders(settings, {NODE.strip("{}"): folder} | inputs), inputs, progress)


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    """Cost of a node, `latents` being the shape of a cached latent where it is known."""
    return PARTS[node.kind].estimate(node, latents)

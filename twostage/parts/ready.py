"""A ready autoencoder, kept as it was: folder/autoencoder."""

from pathlib import Path
from typing import Any

from eqvae.autoencoders import load_autoencoder
from eqvae.autoencoders.loading import PACKAGED
from eqvae.files import sha256_of_file
from twostage.graph.node import Node, Progress
from twostage.parts.part import Estimate, Part
from twostage.parts.sizes import autoencoder_bytes


def settings(source: str) -> dict[str, Any]:
    """The source, and the hash of each of its files, so that a changed one is new work (null where it is not here)."""
    return {"autoencoder": source, "files": _fingerprint(source)}


def run(folder: Path, settings: dict[str, Any], inputs: dict[str, Path], progress: Progress) -> None:
    load_autoencoder(settings["autoencoder"]).save_pretrained(folder / "autoencoder")


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    return Estimate(num_bytes=autoencoder_bytes(node))


def _fingerprint(source: str) -> dict[str, str] | None:
    if Path(source).is_file():
        return {Path(source).name: sha256_of_file(Path(source))}
    folder = Path(source) if Path(source).is_dir() else Path(str(PACKAGED / source))
    if not folder.is_dir():
        return None
    return {path.name: sha256_of_file(path) for path in sorted(folder.iterdir()) if path.is_file()}


READY = Part("ready", run, estimate)

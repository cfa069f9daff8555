"""Checkpoints that are whole or absent, and say so when they are damaged."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from eqvae.files import remove_leftovers, sha256_of_file, write_atomically

CHECKSUM_SUFFIX = ".sha256"


class AtomicCheckpointIO(CheckpointIO):
    """Writes through a temporary file in the target folder, syncs, renames, and keeps a sha256 beside the file.

    Lightning's own writer goes through TMPDIR, where a kill during the move can destroy the older checkpoint too, and
    returns silently when the folder cannot be written. This one raises every error and never touches the old file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        if path.parent.is_dir():
            remove_leftovers(path.parent)
        # The old checksum goes first: a kill between the two writes leaves a whole checkpoint without one.
        checksum_path(path).unlink(missing_ok=True)
        write_atomically(path, lambda file: torch.save(checkpoint, file))
        write_atomically(checksum_path(path), sha256_of_file(path).encode())

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict:
        return load_checkpoint(path, map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
        checksum_path(Path(path)).unlink(missing_ok=True)


def checksum_path(path: Path) -> Path:
    return path.with_name(path.name + CHECKSUM_SUFFIX)


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A Lightning checkpoint, verified by its checksum where there is one; nothing in it is executed.

    Raises:
        ValueError: if the file is missing, damaged, or not a checkpoint of plain tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    recorded = checksum_path(path)
    if recorded.is_file() and recorded.read_text().strip() != sha256_of_file(path):
        raise ValueError(f"checkpoint {path} is damaged: its sha256 is not the one in {recorded.name}; use another one")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, torch.serialization.pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"checkpoint {path} cannot be read safely (weights_only): {reason}") from None

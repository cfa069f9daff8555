"""Checkpoints that are whole or absent, and say so when they are damaged."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from eqvae.files import remove_leftovers, write_atomically
from eqvae.hashes import archive_is_sound, seal_archive
from eqvae.weights import torch_refusal

SEALED = "sealed"  # key of a checkpoint: it was written with its hash, so one without is damaged
WEIGHTS = ("state_dict", "current_model_state", "further_averages")
TRAINED = (*WEIGHTS, "optimizer_states")


class AtomicCheckpointIO(CheckpointIO):
    """Writes through a temporary file in the target folder, with the sha256 of all of it inside, syncs, and renames.

    Lightning's own writer goes through TMPDIR, where a kill during the move can destroy the older checkpoint too, and
    returns silently when the folder cannot be written. This one raises every error and never touches the old file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            ValueError: if a weight or the optimizer's state is not finite, or the disk is full.
            OSError: from the file system, naming the path.
        """
        path = Path(path)
        if name := _nonfinite(checkpoint, TRAINED):
            raise ValueError(f"checkpoint {path} is not written: {name} is not finite at step {_step(checkpoint)}")
        if path.parent.is_dir():
            remove_leftovers(path.parent)

        def write(file: Any) -> None:
            torch.save(checkpoint | {SEALED: True}, file)
            seal_archive(file)

        try:
            write_atomically(path, write)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            size = sum(value.nbytes for _, value in _tensors(checkpoint, ""))
            raise ValueError(
                f"no space for checkpoint {path}, which takes {size:,} bytes ({error.strerror}): make room and "
                "continue the run with --resume; the checkpoint before it is untouched"
            ) from None

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict:
        return load_checkpoint(path, map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A Lightning checkpoint, verified by the hash inside where it has one; nothing in it is executed.

    Raises:
        ValueError: if the file is missing, damaged, not of plain tensors, or has weights that are not finite; of
            damage also naming the newest intact checkpoint beside it.
    """
    path = Path(path)
    if not path.is_file():
        inside = newest_checkpoint(path / "checkpoints").path if path.is_dir() else None
        way_on = f": give {inside}" if inside else _offer(path) or ": check the path"
        raise ValueError(f"no checkpoint at {path}{way_on}")
    sound = archive_is_sound(path)
    if sound is False:
        raise ValueError(f"checkpoint {path} is damaged: its content does not have the sha256 it names{_offer(path)}")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        way_on = _offer(path) or ": give another"
        why = "it was cut short" if _is_cut(path) else torch_refusal(error)
        raise ValueError(f"checkpoint {path} cannot be read safely: {why}{way_on}") from None
    if sound is None and _was_sealed(checkpoint):
        raise ValueError(f"checkpoint {path} is damaged: it lacks the sha256 it was written with{_offer(path)}")
    if name := _nonfinite(checkpoint, WEIGHTS):
        raise ValueError(f"checkpoint {path}: {name} is not finite: use another checkpoint")
    return checkpoint


def _is_cut(path: Path) -> bool:
    """Whether a file begins as an archive and has no archive's end."""
    with path.open("rb") as file:
        return file.read(2) == b"PK" and not is_zipfile(path)


def checkpoint_step(path: str | Path) -> int:
    """Optimizer steps behind a checkpoint.

    Raises:
        ValueError: as of `load_checkpoint`, or if it does not tell.
    """
    step = read_part(path, "global_step")
    if not isinstance(step, int):
        raise ValueError(f"checkpoint {path} is none of a training: it does not tell its step")
    return step


def read_part(path: str | Path, name: str) -> Any:
    """One entry of a checkpoint, its tensors left on disk until they are looked at; None where there is none such.

    Raises:
        ValueError: as of `load_checkpoint`, if the file cannot be read.
    """
    try:
        return _mapped(path).get(name)
    except Exception:  # a damaged pickle can raise anything
        return load_checkpoint(path).get(name)


@dataclass(frozen=True)
class Newest:
    """The newest intact checkpoint of a folder.

    Args:
        path: None where there is none.
        step: optimizer steps behind it.
        damaged: newer ones, and those that do not tell their step, that were passed over.
    """

    path: Path | None = None
    step: int = 0
    damaged: list[Path] = field(default_factory=list)


def newest_checkpoint(folder: str | Path) -> Newest:
    """The intact checkpoint of most steps, of equal ones that written last; damaged ones are passed over."""
    steps, damaged = {}, []
    for path in sorted(Path(folder).glob("*.ckpt")):
        try:
            steps[path] = _step(_mapped(path))
        except Exception:  # a damaged pickle can raise anything
            damaged.append(path)
    for path in sorted(steps, key=lambda path: (steps[path], path.stat().st_mtime_ns), reverse=True):
        if _is_intact(path):
            return Newest(path, steps[path], damaged)
        damaged.append(path)
    return Newest(damaged=damaged)


def _mapped(path: str | Path) -> dict[str, Any]:
    """A checkpoint whose tensors stay on disk until they are looked at."""
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


def _is_intact(path: Path) -> bool:
    sound = archive_is_sound(path)
    return not _was_sealed(_mapped(path)) if sound is None else sound


def _was_sealed(checkpoint: Any) -> bool:
    return isinstance(checkpoint, dict) and SEALED in checkpoint


def _step(checkpoint: dict[str, Any]) -> int:
    return int(checkpoint["global_step"])


def _offer(path: Path) -> str:
    """The way on from a checkpoint that is damaged."""
    newest = newest_checkpoint(path.parent)
    return f"; the newest intact one beside it is {newest.path}, of step {newest.step}" if newest.path else ""


def _nonfinite(checkpoint: Any, parts: tuple[str, ...]) -> str | None:
    """Name of the first tensor in parts of a checkpoint that is not finite."""
    if not isinstance(checkpoint, dict):
        return None
    named = (pair for part in parts for pair in _tensors(checkpoint.get(part), part))
    return next((name for name, value in named if not _is_finite(value)), None)


def _is_finite(value: Tensor) -> bool:
    """A finite sum, which is an order of magnitude faster to take, has finite terms."""
    return not value.is_floating_point() or bool(value.sum().isfinite()) or bool(value.isfinite().all())


def _tensors(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors in nested mappings and lists, with their places."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, dict | list | tuple):
        entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in entries:
            yield from _tensors(value, f"{name}.{key}" if name else str(key))

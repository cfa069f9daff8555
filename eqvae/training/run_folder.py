"""One run, one folder: who is at work there, whether it is used, and where its run goes on."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from eqvae.files import remove_leftovers
from eqvae.hashes import write_json
from eqvae.locks import Lock
from eqvae.training.checkpoints import checkpoint_step, newest_checkpoint
from eqvae.training.last_checkpoint import checkpoint_folder

LOCK, BEGUN = ".run.lock", "run.json"
WRITTEN = (
    BEGUN,
    "config.yaml",
    "version_*/config.yaml",
    "version_*/hparams.yaml",
    "version_*/events.out.tfevents.*",
    "csv/version_*/config.yaml",
    "csv/version_*/hparams.yaml",
    "csv/version_*/metrics.csv",
    "nonfinite/step=*.safetensors",
    "previews/step=*.png",
)
"""What training leaves in a run folder beside checkpoints and exports; other trackers' logs are theirs to remove."""


class RunFolder:
    """The folder of a run.

    Args:
        root: `trainer.default_root_dir`.
        checkpoints: folder of its checkpoints.
        exported: folder of what training ends with, where it makes something.
    """

    def __init__(self, root: Path, checkpoints: Path, exported: Path | None = None):
        self.root, self.checkpoints, self.exported = Path(root), Path(checkpoints), exported
        self.lock = Lock(self.root / LOCK, f"run folder {self.root}")

    @classmethod
    def of(cls, trainer: Any, module: Any) -> "RunFolder":
        root = Path(trainer.default_root_dir)
        export_path = getattr(module, "export_path", None)
        return cls(root, checkpoint_folder(trainer), export_path(root) if export_path else None)

    def has_run(self) -> bool:
        """Whether a training has begun here, however it ended."""
        return (self.root / BEGUN).is_file() or self._result() is not None

    def first_checkpoint(self, path: str | None, resume: bool, overwrite: bool) -> str | None:
        """The checkpoint that training starts from, None for step 0; the folder is marked as begun.

        Args:
            path: asked for by name.
            resume: find it: the newest intact one.
            overwrite: remove an earlier run.

        Raises:
            ValueError: as of `require_startable`; by `resume`, if nothing there is intact.
        """
        self.require_startable(path, resume, overwrite)
        if self.checkpoints.is_dir():
            remove_leftovers(self.checkpoints)
        if resume:
            path = self.newest()
        elif overwrite:
            self._clear(keep=path)
        write_json(self.root / BEGUN, {"begun": datetime.now().isoformat(" ", "seconds"), "checkpoint": path})
        return path

    def require_startable(self, path: str | None, resume: bool, overwrite: bool) -> None:
        """Refuse to begin, changing nothing; arguments as of `first_checkpoint`.

        Raises:
            ValueError: if the folder is used and none of these says what to do about it, or they contradict.
        """
        if resume and (path or overwrite):
            other = "--ckpt_path" if path else "--overwrite"
            raise ValueError(
                f"--resume finds the newest checkpoint by itself, {other} says otherwise: give one of them"
            )
        if resume or overwrite:
            return
        if path:
            self._require_newest(Path(path))
        elif result := self._result():
            raise ValueError(
                f"run folder {self.root} holds a run ({result}): continue it with --resume, begin anew with "
                "--overwrite, or give another trainer.default_root_dir"
            )

    def newest(self) -> str | None:
        """The newest intact checkpoint, None where the run has none yet; damaged ones are named.

        Raises:
            ValueError: if there are checkpoints and none is intact, or only what a finished run leaves.
        """
        found = newest_checkpoint(self.checkpoints)
        for path in found.damaged:
            rank_zero_warn(f"checkpoint {path} is damaged: passed over")
        if found.path is None and (found.damaged or self._result()):
            what = "no intact checkpoint" if found.damaged else "no checkpoint"
            raise ValueError(f"run folder {self.root} has {what} to resume from: begin anew with --overwrite")
        where = f"from {found.path}, step {found.step}" if found.path else f"{self.root} at step 0: no checkpoint yet"
        rank_zero_info(f"resuming {where}")
        return None if found.path is None else str(found.path)

    def _result(self) -> str | None:
        """A checkpoint or export that a run has left here."""
        checkpoint = max(self.checkpoints.glob("*.ckpt"), default=None)
        weights = next(self.exported.glob("*.safetensors"), None) if self.exported is not None else None
        result = checkpoint or (weights and self.exported)
        return str(result) if result else None

    def _require_newest(self, path: Path) -> None:
        """Two branches of a run in one folder would be two runs."""
        newest = newest_checkpoint(self.checkpoints)
        inside = path.is_file() and path.resolve().parent == self.checkpoints.resolve()
        if newest.path is None and (result := self._result()) and not inside:
            raise ValueError(
                f"run folder {self.root} holds a run ({result}): remove it in favour of {path} with --overwrite, or "
                "give another trainer.default_root_dir"
            )
        if newest.path is None or (inside and checkpoint_step(path) == newest.step):
            return
        raise ValueError(
            f"run folder {self.root} has gone on to {newest.path}, step {newest.step}: continue from there with "
            f"--resume, remove it in favour of {path} with --overwrite, or give another trainer.default_root_dir"
        )

    def _clear(self, keep: str | None) -> None:
        """Remove what an earlier run wrote, and nothing else."""
        for path in self._written():
            if not (keep and Path(keep).is_file() and path.samefile(keep)):
                path.unlink(missing_ok=True)
                with suppress(OSError):  # something else is in there
                    path.parent.rmdir()

    def _written(self) -> Iterator[Path]:
        yield from sorted(self.checkpoints.glob("*.ckpt"))
        for pattern in WRITTEN:
            yield from sorted(self.root.glob(pattern))

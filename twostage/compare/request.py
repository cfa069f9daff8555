"""What is asked for, and the folder that holds it: planned once, and gone on with by the same request alone."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from eqvae.files import TEMPORARY_PREFIX
from eqvae.hashes import read_json, write_json
from twostage.compare.budget import duration
from twostage.compare.contestants import parse_contestants
from twostage.compare.files import write_files
from twostage.sweep import make_folder

PLAN, TIME = "plan.json", "time.json"


@dataclass(frozen=True)
class Request:
    """What is asked for; a folder holds the comparison of one.

    Args:
        autoencoders: words of `parse_contestants`, the control first.
        data, held_out, image_size: as of `find_images`.
        budget: seconds.
        fine_tuning_steps: of autoencoders that are fine-tuned first.
        first_seed: a multiple of 20, which the others follow; another one is an independent repetition.
    """

    autoencoders: list[str]
    data: str
    held_out: str | None
    image_size: int
    budget: float
    fine_tuning_steps: int
    first_seed: int = 0


def default_folder(autoencoders: list[str]) -> Path:
    """`runs/compare-NAMES`.

    Raises:
        ValueError: as of `parse_contestants`.
    """
    return Path("runs") / "-".join(["compare", *(each.name for each in parse_contestants(autoencoders))])


def kept_plan(folder: Path, request: Request) -> dict[str, Any] | None:
    """The plan that a folder holds; None where there is no folder, or an empty one.

    Raises:
        ValueError: for a folder that holds something else, or the comparison of another request.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / PLAN).is_file():
        raise ValueError(f"--output {folder} holds something else than a comparison: give another folder")
    kept = read_json(folder / PLAN)
    left_out = {each.name: each.default for each in fields(Request)}  # by a version that had no such option
    for name, value in asdict(request).items():
        there = kept["request"].get(name, left_out[name])
        if there != value:
            option = "of" if name == "autoencoders" else f"with --{name.replace('_', '-')}"
            raise ValueError(
                f"{folder} holds a comparison {option} {_shown(name, there)}, not {_shown(name, value)}: give that to "
                "go on with it, or another --output"
            )
    return kept


def _shown(name: str, value: Any) -> str:
    if name == "budget":
        return duration(value)
    return " ".join(value) if isinstance(value, list) else str(value)


def used(folder: Path) -> float:
    """Seconds that a comparison has taken in all its runs; one that was killed outright goes uncounted."""
    return read_json(folder / TIME)["seconds"] if (folder / TIME).is_file() else 0.0


@contextmanager
def counting(folder: Path, started: float, before: float) -> Iterator[None]:
    """Add what is done meanwhile to the time that the comparison has taken, however it ends."""
    try:
        yield
    finally:
        write_json(folder / TIME, {"seconds": before + time.monotonic() - started})


def write(folder: Path, files: Mapping[str, dict[str, Any]], planned: dict[str, Any]) -> None:
    """The folder appears with all its files, or not at all."""
    make_folder(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder.parent))
    temporary.chmod(0o755)
    write_files(temporary, files)
    write_json(temporary / PLAN, planned)
    os.rename(temporary, folder)

"""Configs that come with the package: known by a bare name, from any working folder."""

import difflib
import re
from pathlib import Path

INSTALLED, CHECKOUT = Path(__file__).parent / "recipes", Path(__file__).parents[1] / "configs"
NAME = re.compile(r"[\w-]+")
FOLDER = INSTALLED if INSTALLED.is_dir() else CHECKOUT
TRAINING, SWEEPS, BASES = ("eqvae", "dit"), ("sweeps",), ("bases", "eqvae", "dit")
"""Folders below it with the configs of `train.py`, those of `sweep.py`, and those that a config may build on."""


def find_config(given: str | Path, folders: tuple[str, ...]) -> Path:
    """The file that a command's `--config` means: a path, or a packaged config's name (no slash, no suffix).

    Args:
        given: what the user wrote.
        folders: those whose configs the command reads, `TRAINING` or `SWEEPS`; `BASES` for the `base` of a config.

    Raises:
        ValueError: naming the packaged configs that are most like an unknown name, those that an ambiguous name may
            mean, or the one that is called like a file that is not there.
    """
    if Path(given).is_file() and not _places(str(given), folders):
        return Path(given)
    if NAME.fullmatch(str(given)):
        return _named(str(given), folders)
    if not Path(given).exists() and _places(Path(given).stem, folders):
        raise ValueError(f"no file at {given}: the packaged config is called {Path(given).stem}, without a folder")
    return Path(given)


def packaged_configs(folders: tuple[str, ...]) -> dict[str, list[Path]]:
    """The files of each name, in order of the names."""
    found: dict[str, list[Path]] = {}
    paths = (path for name in folders for path in sorted((FOLDER / name).glob("*.yaml")))
    for path in sorted(paths, key=lambda path: path.stem):
        found.setdefault(path.stem, []).append(path)
    return found


def _places(name: str, folders: tuple[str, ...]) -> list[Path]:
    """The files of a packaged config's name, without a look at all the others."""
    paths = [FOLDER / folder / f"{name}.yaml" for folder in folders] if NAME.fullmatch(name) else []
    return [path for path in paths if path.is_file()]


def _named(name: str, folders: tuple[str, ...]) -> Path:
    found = _places(name, folders)
    if not found:
        packaged = packaged_configs(folders)
        near = difflib.get_close_matches(name, packaged)
        advice = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(packaged)}"
        raise ValueError(f"no packaged config is called {name}: {advice}")
    if len(found) > 1:
        raise ValueError(f"config {name} may be {' or '.join(map(str, found))}: give one of these paths")
    return found[0]

"""Configs that come with the package: known by a bare name, from any working folder."""

import difflib
import re
from pathlib import Path

INSTALLED, CHECKOUT = Path(__file__).parent / "recipes", Path(__file__).parents[1] / "configs"
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
    packaged = packaged_configs(folders)
    if Path(given).is_file() and str(given) not in packaged:
        return Path(given)
    if re.fullmatch(r"[\w-]+", str(given)):
        return _named(str(given), packaged)
    if Path(given).stem in packaged and not Path(given).exists():
        raise ValueError(f"no file at {given}: the packaged config is called {Path(given).stem}, without a folder")
    return Path(given)


def packaged_configs(folders: tuple[str, ...]) -> dict[str, list[Path]]:
    """The files of each name, in order of the names."""
    found: dict[str, list[Path]] = {}
    paths = (path for name in folders for path in sorted((FOLDER / name).glob("*.yaml")))
    for path in sorted(paths, key=lambda path: path.stem):
        found.setdefault(path.stem, []).append(path)
    return found


def _named(name: str, packaged: dict[str, list[Path]]) -> Path:
    if name not in packaged:
        near = difflib.get_close_matches(name, packaged)
        advice = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(packaged)}"
        raise ValueError(f"no packaged config is called {name}: {advice}")
    if len(packaged[name]) > 1:
        raise ValueError(f"config {name} may be {' or '.join(map(str, packaged[name]))}: give one of these paths")
    return packaged[name][0]

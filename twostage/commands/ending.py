"""The last two lines of every command: what it wrote, and the command to type next."""

import shlex
import sys
from itertools import count
from pathlib import Path

from eqvae.plugins import plugin_options

NOTHING = "nothing: --output FILE keeps the numbers"


def command(name: str, *words: object) -> list[str]:
    """The words that start a command as this one was started: a script in the same folder, or the installed one.

    Args:
        name: "train", "sample", "evaluate", "sweep" or "compare".
        words: of it.
    """
    program = Path(sys.argv[0])
    start = ["python", str(program.with_name(f"{name}.py"))] if program.suffix == ".py" else [f"eqvae-{name}"]
    return [*start, *plugin_options(), *map(str, words)]


def look_at(path: object) -> list[str]:
    """The words that open a file in the browser."""
    return ["python", "-m", "webbrowser", str(path)]


def end(wrote: object, following: list[str], verb: str = "wrote") -> None:
    """Print the two lines.

    Args:
        wrote: path of what is there now; None where nothing was to be kept.
        following: words of the next command, which can be typed as they stand.
        verb: what was done to it.
    """
    print(f"{verb} {NOTHING if wrote is None else wrote}")
    print(f"next: {shlex.join(following)}", flush=True)


def free(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, ... that nothing lies in."""
    places = (folder.with_name(f"{folder.name}{'' if number == 1 else f'-{number}'}") for number in count(1))
    return next(place for place in places if not place.exists() or (place.is_dir() and not any(place.iterdir())))

"""Record the losses of tiny recipes; see `tests.golden`."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tests.golden.recipes import RECIPES, comparable_steps, train_recipe, write_caches
from tests.golden.recordings import (
    Entry,
    path_of,
    read_entries,
    require_agreement,
    this_processor,
    write_entries,
)

VECTOR_UNITS = {"default": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}  # smallest first; torch's name of each
CHOICE = "ATEN_CPU_CAPABILITY"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="RECIPE", help=f"all by default: {', '.join(RECIPES)}")
    parser.add_argument("--add", action="store_true", help="keep what was recorded elsewhere with the same code")
    arguments = parser.parse_args()
    names = arguments.names or list(RECIPES)
    if unknown := set(names) - set(RECIPES):
        parser.error(f"no recipes: {', '.join(sorted(unknown))}; use some of {', '.join(RECIPES)}")
    if CHOICE in os.environ:
        record(names)
        return
    if not arguments.add:
        for name in names:
            path_of(name).unlink(missing_ok=True)
    for unit in units_here():
        subprocess.run([sys.executable, "-m", "tests.golden", *names], env=os.environ | {CHOICE: unit}, check=True)


def units_here() -> list[str]:
    """Choices of the vector unit up to that of this processor."""
    units, own = list(VECTOR_UNITS), torch.backends.cpu.get_cpu_capability()
    return units[: 1 + list(VECTOR_UNITS.values()).index(own)] if own in VECTOR_UNITS.values() else [own.lower()]


def record(names: list[str]) -> None:
    """Train and add to what is recorded, in place of an earlier entry of this processor."""
    processor = this_processor()
    with tempfile.TemporaryDirectory() as folder:
        caches = write_caches(Path(folder) / "caches")
        for name in names:
            losses = train_recipe(name, Path(folder) / name, caches)
            entries = read_entries(name) if path_of(name).is_file() else []
            entries = [entry for entry in entries if entry.processor != processor] + [Entry(processor, losses)]
            try:
                require_agreement(entries, comparable_steps(name))
            except ValueError as error:
                raise SystemExit(f"{name}: {error}; without --add they are") from None
            write_entries(name, entries)
            print(f"{name}: recorded on {' '.join(processor)}", flush=True)


if __name__ == "__main__":
    main()

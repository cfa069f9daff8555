"""All benchmarks, each in a process of its own, beside what `last.json` holds of an earlier run.

Prints what takes longer or shorter than there by more than the rounds of either run spread. `--record` puts the new
numbers in their place, there and in the table of README.md.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eqvae.commands import run_command

HERE = Path(__file__).parent
LAST, PAGE = HERE / "last.json", HERE / "README.md"
NOT_BENCHMARKS = ("all", "measure", "generators", "gpu", "gpu_steps")
NAMES = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_BENCHMARKS)
TIME, SPREAD = "processor_seconds", "processor_spread"
MACHINE = ("device", "threads", "torch", "python")
HEAD = "| benchmark | what | seconds | processor seconds | spread | on |\n| --- | --- | --- | --- | --- | --- |\n"
BEGIN, END = "<!-- the last run, written by all.py -->\n", "<!-- its end -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="run these")
    parser.add_argument("--record", action="store_true", help="keep the numbers as those of the last run")
    arguments, options = parser.parse_known_args()
    run_command(lambda: run(arguments.only, options, arguments.record))


def run(names: list[str], options: list[str], record: bool) -> None:
    """Run benchmarks, each with the same further options, and print what each says and what has moved."""
    last = json.loads(LAST.read_text()) if LAST.is_file() else {}
    for name in names:
        finished = subprocess.run([sys.executable, HERE / f"{name}.py", *options], stdout=subprocess.PIPE, text=True)
        if finished.returncode:
            raise ValueError(f"benchmarks/{name}.py failed with {finished.returncode}: run it alone")
        print(finished.stdout, end="", flush=True)
        found = json.loads(finished.stdout) | {"options": options}
        for line in moved(last.get(name, {}), found):
            print(line, flush=True)
        last[name] = found
        if record:
            write(last)


def moved(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """What takes another processor time than before by more than its spread; nothing of other settings or machines."""
    if not before or settings(before) != settings(after):
        yield f"{after['benchmark']}: nothing of these settings on this machine to compare with"
        return
    old_times, new_times = timings(before), timings(after)
    for name in old_times.keys() & new_times.keys():
        old, new = old_times[name], new_times[name]
        factor, spread = new[TIME] / old[TIME], max(old[SPREAD], new[SPREAD])
        if max(factor, 1 / factor) > spread:
            yield f"{after['benchmark']}, {name}: {old[TIME]:.4g} s -> {new[TIME]:.4g} s, spread {spread:.2f}"


def timings(values: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of a benchmark's report what was timed, by its name."""
    return {name: value for name, value in values.items() if isinstance(value, dict) and TIME in value}


def settings(values: dict[str, Any]) -> dict[str, Any]:
    """Machine and options; the rest are results."""
    return {name: values.get(name) for name in (*MACHINE, "precision", "options")}


def write(last: dict[str, Any]) -> None:
    """Keep all that is known, as JSON and as a table for people."""
    LAST.write_text(json.dumps(last, indent=1, sort_keys=True) + "\n")
    rows = "".join(
        f"| `{benchmark} {' '.join(values['options'])}".rstrip() + f"` | {name} | {timing['seconds']:.3g} | "
        f"{timing[TIME]:.3g} | {timing[SPREAD]:.2f} | {', '.join(f'{values[key]}' for key in MACHINE)} |\n"
        for benchmark, values in sorted(last.items())
        for name, timing in timings(values).items()
    )
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + HEAD + rows + END + rest.split(END)[1])


if __name__ == "__main__":
    main()

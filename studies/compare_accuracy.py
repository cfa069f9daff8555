"""Is the verdict of `compare` right as often as it says? Comparisons of equal and of different autoencoders.

`python -m studies.compare_accuracy LINES --run FOLDER` does those that are not among the lines yet and adds them, equal
and different ones in turns; without `--run` the table of docs/studies/compare-accuracy.md is printed.
"""

import argparse
import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, variance

from studies.start_search import read_results
from studies.sweep_table import table
from twostage.analysis.summary import summarize
from twostage.compare.run import Compared, compare_autoencoders

LINES = Path(__file__).parent / "results/compare-accuracy.jsonl"
PAIRS = {
    "equal": ("ordinary:scenes-f4c8", "again:scenes-f4c8"),
    "different": ("scenes-f4c8-control", "scenes-f4c8-eq"),
}
COUNT, SEEDS_APART = 20, 100  # comparisons of each pair; their seeds overlap in none
SETTINGS = {"data": "scenes:2000", "fine_tuning_steps": 50}
TRUE_RATIO = {"equal": 1.0}  # what is known without any comparison


def run_all(
    lines: Path, folder: Path, budget: str, count: int = COUNT, first: int = 0, pairs: Sequence[str] = tuple(PAIRS)
) -> None:
    """Do what is not among the lines; a comparison that was stopped is gone on with."""
    done = {(line["pair"], line["number"]) for line in read_results(lines)}
    for number in range(first, first + count):
        for pair in pairs:
            if (pair, number) in done:
                continue
            started, output = time.monotonic(), folder / f"{pair}-{number}" / "comparison"
            compared = compare_autoencoders(
                PAIRS[pair], budget=budget, first_seed=SEEDS_APART * number, output=output, **SETTINGS
            )
            line = {"pair": pair, "number": number, "budget": budget, "seconds": round(time.monotonic() - started, 1)}
            with lines.open("a") as file:
                file.write(json.dumps(line | found(compared)) + "\n")
            shutil.rmtree(output.parent)


def found(compared: Compared) -> dict:
    """What a comparison of two said, and the log speed-up of each of its seeds."""
    (comparison,) = summarize(compared.results).comparisons
    verdict, each = comparison.verdict, [seed.speed_up for seed in comparison.per_seed]
    return {
        "word": verdict.word,
        "ratio": verdict.ratio,
        "low": verdict.low,
        "high": verdict.high,
        "level": verdict.level,
        "log_speed_ups": [None if speed_up is None else speed_up.log_ratio for speed_up in each],
    }


def tables(lines: Sequence[dict]) -> str:
    """How often each pair was called what, and how often the interval holds the ratio.

    The ratio of the different pair is the mean over all seeds of all its comparisons.
    """
    header = [
        "pair",
        "comparisons",
        "faster",
        "slower",
        "undecided",
        "true ratio",
        "interval holds it",
        "seeds",
        "time",
    ]
    rows = []
    for pair in PAIRS:
        own = [line for line in lines if line["pair"] == pair]
        if own:
            rows.append([pair, str(len(own)), *_words(own), *_held(own, TRUE_RATIO.get(pair)), *_spent(own)])
    return table(header, rows)


def _words(own: Sequence[dict]) -> list[str]:
    return [str(sum(line["word"] == word for line in own)) for word in ("faster", "slower", "undecided")]


def _held(own: Sequence[dict], ratio: float | None) -> list[str]:
    logs = [each for line in own for each in line["log_speed_ups"] if each is not None]
    true = math.exp(mean(logs)) if ratio is None else ratio
    given = [line for line in own if line["low"] is not None]
    held = sum(line["low"] <= true <= line["high"] for line in given)
    return [f"{true:.2f}", f"{held} of {len(given)}"]


def _spent(own: Sequence[dict]) -> list[str]:
    seconds = [line["seconds"] for line in own]
    seeds = mean(len(line["log_speed_ups"]) for line in own)
    return [f"{seeds:.1f}", f"{median(seconds):.0f} s ({min(seconds):.0f} to {max(seconds):.0f})"]


def spread(lines: Sequence[dict], pair: str) -> float:
    """Standard deviation of the log speed-up of a pair's seeds within a comparison, pooled over comparisons."""
    each = [[log for log in line["log_speed_ups"] if log is not None] for line in lines if line["pair"] == pair]
    several = [logs for logs in each if len(logs) > 1]
    squares = sum(variance(logs) * (len(logs) - 1) for logs in several)
    return math.sqrt(squares / sum(len(logs) - 1 for logs in several))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="?", type=Path, default=LINES)
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="do comparisons there, and add their lines")
    parser.add_argument("--budget", default="4m", help="of each (default %(default)s)")
    parser.add_argument("--count", type=int, default=COUNT, help="comparisons of each pair (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one; seeds follow it")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=tuple(PAIRS), help="only these")
    arguments = parser.parse_args()
    if arguments.run:
        run_all(arguments.lines, arguments.run, arguments.budget, arguments.count, arguments.first, arguments.pairs)
    else:
        lines = read_results(arguments.lines)
        print(tables(lines))
        for pair in {line["pair"]: None for line in lines}:
            print(
                f"{pair}: a seed's log speed-up has a standard deviation of {spread(lines, pair):.2f} in a comparison"
            )


if __name__ == "__main__":
    main()

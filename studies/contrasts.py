"""How arms of a published sweep compare with each other: `python -m studies.contrasts ablation scale:rotation ...`.

A contrast is the difference of two arms' log speed-ups over the control, paired by seed.
"""

import argparse
import math
from collections.abc import Sequence

from studies.sweep_table import table
from twostage.analysis.intervals import Interval, interval_over_seeds
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import summarize
from twostage.verify import find_study, read_study


def log_speed_ups(results: SweepResults, arm: str) -> dict[int, float]:
    """Of an arm over the control by seed, on the first generator; 0 of the control itself.

    Raises:
        ValueError: for an arm that is not there, lacks a seed, or has a bound in place of a speed-up.
    """
    if arm == results.control:
        return dict.fromkeys(results.seeds, 0.0)
    first = results.generators[0].name
    found = [each for each in summarize(results).comparisons if (each.arm, each.generator) == (arm, first)]
    if not found:
        raise ValueError(f"no arm {arm!r}: there are {', '.join(each.name for each in results.arms)}")
    logs = {}
    for row in found[0].per_seed:
        if row.speed_up is None or row.speed_up.kind != "value" or row.speed_up.log_ratio is None:
            raise ValueError(f"seed {row.seed} of {arm} has no speed-up but a bound: measure at more steps")
        logs[row.seed] = row.speed_up.log_ratio
    if lacking := sorted(set(results.seeds) - set(logs)):
        raise ValueError(f"{arm} lacks seed {lacking[0]}: every arm is compared in every seed")
    return logs


def contrast(results: SweepResults, first: str, second: str) -> Interval:
    """Of the log of how many times as fast the first arm is as the second one."""
    ours, theirs = log_speed_ups(results, first), log_speed_ups(results, second)
    return interval_over_seeds([ours[seed] - theirs[seed] for seed in results.seeds])


def tables(results: SweepResults, pairs: Sequence[tuple[str, str]]) -> str:
    """A row for each pair, the first of which is expected to be the faster one."""
    labels = {arm.name: arm.label for arm in results.arms}
    rows = []
    for first, second in pairs:
        found = contrast(results, first, second)
        rows.append([f"{labels[first]} over {labels[second]}", factor_text(found), _word(found)])
    return table(["expected to be faster", "times as fast (95 %)", "found"], rows)


def factor_text(found: Interval) -> str:
    """A log ratio as a factor with its interval."""
    ends = "" if found.ends is None else f" ({math.exp(found.ends[0]):.2f} to {math.exp(found.ends[1]):.2f})"
    return f"{math.exp(found.mean):.2f}{ends}"


def _word(found: Interval) -> str:
    if found.ends is None or found.ends[0] * found.ends[1] <= 0:
        return "undecided"
    return "as expected" if found.mean > 0 else "the other way round"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="as of verify.py")
    parser.add_argument("pairs", nargs="+", metavar="FASTER:SLOWER", help="arms, by name")
    arguments = parser.parse_args()
    chosen = [tuple(pair.split(":")) for pair in arguments.pairs]
    print(tables(read_study(find_study(arguments.study)), chosen))

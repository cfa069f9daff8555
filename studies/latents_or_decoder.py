"""What of EQ's gain is its latents', and what its decoder's: `python -m studies.latents_or_decoder REPORT`.

The report is that of `studies/latents-or-decoder.yaml`: both latent spaces with both decoders.
"""

import argparse
import math

from studies.sweep_table import table
from twostage.analysis.intervals import Interval, interval_over_seeds
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import summarize
from twostage.verify import find_study, read_study

DECODER, LATENTS, BOTH = "decoder", "latents", "both"  # arms beside the control, by what of them is EQ's


def effects(results: SweepResults) -> dict[str, Interval]:
    """Of EQ's decoder and of EQ's latents on the log speed-up, each the mean over both of the other.

    Raises:
        ValueError: for an arm or seed without a speed-up, or with a bound in place of one.
    """
    logs = {
        each.arm: {row.seed: _log(each.arm, row) for row in each.per_seed} for each in summarize(results).comparisons
    }
    if set(logs) != {DECODER, LATENTS, BOTH} or any(set(own) != set(results.seeds) for own in logs.values()):
        raise ValueError(f"the arms {DECODER}, {LATENTS} and {BOTH} are needed in every seed, there are {sorted(logs)}")
    by_seed = [(logs[DECODER][seed], logs[LATENTS][seed], logs[BOTH][seed]) for seed in results.seeds]
    return {
        DECODER: interval_over_seeds([(decoder + both - latents) / 2 for decoder, latents, both in by_seed]),
        LATENTS: interval_over_seeds([(latents + both - decoder) / 2 for decoder, latents, both in by_seed]),
    }


def _log(arm, row) -> float:
    if row.speed_up is None or row.speed_up.kind != "value":
        raise ValueError(f"seed {row.seed} of {arm} has no speed-up but a bound: measure at more steps")
    return math.log(row.speed_up.ratio)


def tables(results: SweepResults) -> str:
    """Both effects as factors, and whose gain it is."""
    found = effects(results)
    rows = [[f"EQ's {name}", _factor(each)] for name, each in found.items()]
    acting = [name for name, each in found.items() if each.ends is not None and each.ends[0] * each.ends[1] > 0]
    whose = " and ".join(f"its {name}" for name in acting) or "neither for certain"
    return f"{table(['effect on the speed', 'times as fast (95 %)'], rows)}\n\n**What acts: {whose}.**"


def _factor(effect: Interval) -> str:
    ends = "" if effect.ends is None else f" ({math.exp(effect.ends[0]):.2f} to {math.exp(effect.ends[1]):.2f})"
    return f"{math.exp(effect.mean):.2f}{ends}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="as of verify.py")
    print(tables(read_study(find_study(parser.parse_args().study))))

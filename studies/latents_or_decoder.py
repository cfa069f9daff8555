"""What of EQ's gain is its latents', and what its decoder's: `python -m studies.latents_or_decoder REPORT`.

The report is that of `studies/latents-or-decoder.yaml`: both latent spaces with both decoders.
"""

import argparse

from studies.contrasts import factor_text, log_speed_ups
from studies.sweep_table import table
from twostage.analysis.intervals import Interval, interval_over_seeds
from twostage.analysis.records import SweepResults
from twostage.verify import find_study, read_study

DECODER, LATENTS, BOTH = "decoder", "latents", "both"  # arms beside the control, by what of them is EQ's


def effects(results: SweepResults) -> dict[str, Interval]:
    """Of EQ's decoder and of EQ's latents on the log speed-up, each the mean over both of the other.

    Raises:
        ValueError: for an arm or seed without a speed-up, or with a bound in place of one.
    """
    arms = sorted(arm.name for arm in results.treated_arms)
    if arms != sorted((DECODER, LATENTS, BOTH)):
        raise ValueError(f"the arms {DECODER}, {LATENTS} and {BOTH} are needed in every seed, there are {arms}")
    logs = {arm: log_speed_ups(results, arm) for arm in arms}
    by_seed = [(logs[DECODER][seed], logs[LATENTS][seed], logs[BOTH][seed]) for seed in results.seeds]
    return {
        DECODER: interval_over_seeds([(decoder + both - latents) / 2 for decoder, latents, both in by_seed]),
        LATENTS: interval_over_seeds([(latents + both - decoder) / 2 for decoder, latents, both in by_seed]),
    }


def tables(results: SweepResults) -> str:
    """Both effects as factors, and whose gain it is."""
    found = effects(results)
    rows = [[f"EQ's {name}", factor_text(each)] for name, each in found.items()]
    acting = [name for name, each in found.items() if each.ends is not None and each.ends[0] * each.ends[1] > 0]
    whose = " and ".join(f"its {name}" for name in acting) or "neither for certain"
    return f"{table(['effect on the speed', 'times as fast (95 %)'], rows)}\n\n**What acts: {whose}.**"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="as of verify.py")
    print(tables(read_study(find_study(parser.parse_args().study))))

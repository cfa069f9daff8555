"""How much of EQ's gain is there after which part of a fine-tuning: `python -m studies.how_soon REPORT`.

The report is that of `studies/how-soon.yaml`, whose arms are snapshots of one fine-tuning in their order.
"""

import argparse
from statistics import mean

from studies.contrasts import log_speed_ups
from studies.sweep_table import table
from twostage.analysis.comparison import INCLUDING, Comparison
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import summarize
from twostage.analysis.words import verdict_text
from twostage.verify import find_study, read_study


def tables(results: SweepResults) -> str:
    """A row for each snapshot, and the first one that is faster.

    Raises:
        ValueError: for an arm that lacks a seed, or has a bound in place of a speed-up.
    """
    summary = summarize(results)
    found = {each.arm: each for each in summary.comparisons}
    stands = {claim.arm: claim.stands for claim in summary.joint}
    means = {arm.name: mean(log_speed_ups(results, arm.name).values()) for arm in results.treated_arms}
    whole = means[results.treated_arms[-1].name]
    rows = []
    for arm in results.treated_arms:
        share, holds = means[arm.name] / whole, "yes" if stands.get(arm.name) else "no"
        charged = _charged(found[arm.name])
        rows.append([arm.label, verdict_text(found[arm.name].verdict), f"{round(share, 2) + 0.0:.0%}", holds, charged])
    header = ["arm", "times as fast (95 %)", "share of the last one's gain", "stands after Holm"]
    faster = [arm.label for arm in results.treated_arms if found[arm.name].verdict.word == "faster"]
    first = f"first faster: {faster[0]}" if faster else "none is faster"
    return f"{table([*header, 'in device time, fine-tuning charged'], rows)}\n\n**{first[0].upper()}{first[1:]}.**"


def _charged(comparison: Comparison) -> str:
    """The speed-up in device time with the fine-tuning in it, where times are known."""
    found = [row.verdict for row in comparison.axes if row.label == INCLUDING]
    return verdict_text(found[0]) if found else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="as of verify.py")
    print(tables(read_study(find_study(parser.parse_args().study))))

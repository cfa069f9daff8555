"""Speed-up against reconstruction, one mark for each arm: `python -m studies.arms_figure STUDY RIVAL FILE`.

What beats control and rival in both lies right of the control's line and above the rival's mark.
"""

import argparse
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from twostage.analysis.records import SweepResults
from twostage.analysis.summary import summarize
from twostage.verify import find_study, read_study

matplotlib.use("Agg")

COLOURS = {"faster": "C2", "slower": "C3", "undecided": "0.5"}


def draw(results: SweepResults, rival: str, path: Path) -> None:
    """With the intervals of the speed-ups over the control, on the first generator."""
    summary = summarize(results)
    psnr = {row.arm: row.metrics["psnr"].mean for row in summary.autoencoders}
    first = results.generators[0].name
    figure, axis = plt.subplots(figsize=(9, 5.4), constrained_layout=True)
    for each in summary.comparisons:
        verdict = each.verdict
        if each.generator != first or verdict.ratio is None:
            continue
        change = psnr[each.arm] - psnr[results.control]
        if verdict.low is not None and verdict.high is not None:
            axis.plot([change] * 2, [verdict.low, verdict.high], color=COLOURS[verdict.word], linewidth=1.5)
        axis.plot(change, verdict.ratio, "D" if each.arm == rival else "o", color=COLOURS[verdict.word])
        axis.annotate(each.arm_label, (change, verdict.ratio), (5, 4), textcoords="offset points", fontsize=8)
    axis.axvline(0, color="0.7", linewidth=1, zorder=0)
    axis.axhline(1, color="0.7", linewidth=1, zorder=0)
    axis.set_yscale("log")
    axis.set_yticks([0.5, 0.7, 1, 1.4, 2, 2.8], ["0.5", "0.7", "1", "1.4", "2", "2.8"])
    axis.minorticks_off()
    axis.set(xlabel="PSNR beside the control's, dB", ylabel="times as fast as the control, 95 % interval")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="as of verify.py")
    parser.add_argument("rival", help="name of the arm that is marked")
    parser.add_argument("file", type=Path, help="PNG or SVG")
    arguments = parser.parse_args()
    draw(read_study(find_study(arguments.study)), arguments.rival, arguments.file)

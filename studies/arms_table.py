"""One row for each arm of a published sweep of many: `python -m studies.arms_table regularizers equivariant`.

What the autoencoder does, how fast a generator learns on it against the control and against a rival arm, and which arms
beat both. A test compares the tables with their page.
"""

import argparse
from collections.abc import Iterator

from studies.sweep_table import table
from twostage.analysis.comparison import INCLUDING, Comparison, verdict_between
from twostage.analysis.intervals import ERROR_RATE
from twostage.analysis.leaderboard import LeaderboardRow
from twostage.analysis.records import Arm, GeneratorEntry, SweepResults
from twostage.analysis.summary import MeasuredRow, Spread, Summary, summarize
from twostage.analysis.verdict import Verdict
from twostage.analysis.words import verdict_text
from twostage.report.text import format_number, with_range
from twostage.verify import find_study, read_study

FASTER, UNDECIDED = "faster", "undecided"


def tables(results: SweepResults, rival: str) -> str:
    """Autoencoders, then generators, and a sentence on the arms that beat control and rival.

    Args:
        rival: an arm that all others are held against, beside the control.
    """
    summary = summarize(results)
    parts = [table(_header(results), list(_autoencoders(results, summary)))]
    labels = {arm.name: arm.label for arm in results.arms}
    for generator in results.generators:
        header = [generator.label, "FD at the end", f"over {labels[results.control]}", f"over {labels[rival]}"]
        rows = list(_generators(results, summary, generator, rival))
        parts.append(table([*header, "in device time, fine-tuning included"], rows))
    winners = [labels[name] for name in beating_both(results, rival)]
    beaten = f"{labels[results.control]} and {labels[rival]}"
    parts.append(f"**Faster than {beaten}, and with a PSNR above the control's: {', '.join(winners) or 'none'}.**")
    return "\n\n".join(parts)


def in_short(results: SweepResults) -> dict[str, str]:
    """{arm: its speed-up over the control on the first generator, and what its PSNR is beside the control's}."""
    changes, first = psnr_changes(results), results.generators[0].name
    return {
        each.arm: f"{_told(each.verdict)}, {_decibels(changes[each.arm])}"
        for each in summarize(results).comparisons
        if each.generator == first
    }


def psnr_changes(results: SweepResults) -> dict[str, float]:
    """{arm: its PSNR beside the control's in dB, means over seeds}."""
    psnr = {row.arm: row.metrics["psnr"].mean for row in summarize(results).autoencoders}
    return {arm: value - psnr[results.control] for arm, value in psnr.items()}


def _decibels(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f} dB".replace("-", "\N{MINUS SIGN}")  # + 0.0: no negative zero


def beating_both(results: SweepResults, rival: str) -> list[str]:
    """Arms called faster than the control and the rival, on every generator, whose PSNR is the higher in every seed."""
    psnr = {row.arm: row.metrics["psnr"] for row in summarize(results).autoencoders}
    return [
        arm.name
        for arm in results.treated_arms
        if arm.name != rival and _is_faster(results, arm, rival) and _is_above(psnr[arm.name], psnr[results.control])
    ]


def _is_faster(results: SweepResults, arm: Arm, rival: str) -> bool:
    found = [
        verdict_between(results, arm.name, other, generator.name, ERROR_RATE)
        for generator in results.generators
        for other in (results.control, rival)
    ]
    return all(verdict is not None and verdict.word == FASTER for verdict in found)


def _is_above(own: Spread, control: Spread) -> bool:
    """In every seed; a ready arm, which has no seeds, has one value for all of them."""
    return all(own.values.get(seed, own.mean) > value for seed, value in control.values.items())


def _header(results: SweepResults) -> list[str]:
    columns = ["PSNR (dB)", "rFD", "rotation error", "scale error", "high frequencies", "dimension", "time of a step"]
    return ["mean (lowest to highest seed)", *columns]


def _autoencoders(results: SweepResults, summary: Summary) -> Iterator[list[str]]:
    errors = {row.transform: row.arms for row in summary.equivariance["latent"]}
    seconds = _least_seconds(results)
    for row in summary.autoencoders:
        metrics = ("psnr", f"r{results.metric}")
        cells = [with_range(row.metrics.get(name)) for name in metrics]
        cells += [_mean_error(errors, kind, row) for kind in ("rotation", "scale")]
        cells += [_mean(row.metrics.get(name)) for name in ("high_frequency_share", "intrinsic_dimension")]
        cells.append(f"{seconds[row.arm] / seconds[results.control]:.2f}" if row.arm in seconds else "")
        yield [row.label, *cells]


def _least_seconds(results: SweepResults) -> dict[str, float]:
    """What a fine-tuning took in the seed that other work on the machine disturbed least, where there was one."""
    found: dict[str, list[float]] = {}
    for each in results.autoencoders:
        if each.num_steps and each.device_seconds:
            found.setdefault(each.arm, []).append(each.device_seconds / each.num_steps)
    return {arm: min(seconds) for arm, seconds in found.items() if results.control in found}


def _mean_error(errors: dict[str, dict[str, Spread]], kind: str, row: MeasuredRow) -> str:
    """Over the transforms of a kind, and seeds."""
    found = [arms[row.arm].mean for name, arms in errors.items() if name.startswith(kind) and row.arm in arms]
    return format_number(sum(found) / len(found)) if found else ""


def _mean(spread: Spread | None) -> str:
    return "" if spread is None else format_number(spread.mean)


def _generators(results: SweepResults, summary: Summary, generator: GeneratorEntry, rival: str) -> Iterator[list[str]]:
    """The fastest first, as in the leaderboard."""
    compared = {each.arm: each for each in summary.comparisons if each.generator == generator.name}
    end = {row.arm: row.metrics[results.metric] for row in summary.last_step if row.generator == generator.name}
    for row in summary.leaderboard:
        if row.generator == generator.name:
            against = verdict_between(results, row.arm, rival, generator.name, ERROR_RATE) if row.arm != rival else None
            cells = [_mean(end.get(row.arm)), _told(row.verdict), _told(against), _including(row, compared)]
            yield [row.arm_label, *cells]


def _told(verdict: Verdict | None) -> str:
    """The size, and in bold the word of a decided one; nothing for an arm against itself."""
    if verdict is None:
        return ""
    return f"**{verdict.word}** {verdict_text(verdict)}" if verdict.word != UNDECIDED else verdict_text(verdict)


def _including(row: LeaderboardRow, compared: dict[str, Comparison]) -> str:
    axes = compared[row.arm].axes if row.arm in compared else []
    found = [each.verdict for each in axes if each.label == INCLUDING]
    return verdict_text(found[0]) if found else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="as of verify.py")
    parser.add_argument("rival", help="name of the other arm that all are held against")
    arguments = parser.parse_args()
    print(tables(read_study(find_study(arguments.study)), arguments.rival))

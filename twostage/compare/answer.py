"""The answer of a comparison: verdicts and ranking."""

from twostage.analysis.comparison import Comparison
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import summarize
from twostage.analysis.words import interval_name, not_compared_sentence, seeds_text, short_sentence, verdict_text


def answer(results: SweepResults) -> list[str]:
    """A line for each arm beside the control, and the ranking of more than two."""
    labels = {arm.name: arm.label for arm in results.arms}
    summary = summarize(results)
    comparisons = summary.comparisons
    lines = [
        f"{labels[each.arm]} against {labels[results.control]}: {short_sentence(each.verdict)}{_rests_on(each)}"
        for each in comparisons
    ]
    lines += map(not_compared_sentence, summary.not_compared)
    if len(comparisons) > 1:
        lines.append(f"ranking: {_ranking(comparisons, labels[results.control])}")
    return lines


def _rests_on(comparison: Comparison) -> str:
    """The seeds, what kind of interval stands before them, and of an open verdict how it stands."""
    verdict = comparison.verdict
    seeds = seeds_text(verdict.num_seeds)
    if verdict.low is None:
        return f"; {seeds}"
    return f"; {verdict_text(verdict) if verdict.word == 'undecided' else interval_name(verdict)}, {seeds}"


def _ranking(comparisons: list[Comparison], control: str) -> str:
    """By the speed-up over the control; those it is not known of come last."""
    ratios: list[tuple[float | None, str]] = [(1.0, f"{control} (control)")]
    for each in comparisons:
        open_ = ", undecided" if each.verdict.word == "undecided" else ""
        is_known = each.verdict.word != "undecided" or each.verdict.low is not None  # an open bound says nothing
        ratio = each.verdict.ratio if is_known else None
        ratios.append((ratio, f"{each.arm_label} ({verdict_text(each.verdict)}{open_})"))
    ranked = sorted(ratios, key=lambda entry: (entry[0] is None, -(entry[0] or 0.0)))
    return ", ".join(f"{place}. {text}" for place, (_, text) in enumerate(ranked, 1))

"""A verdict in words that a lay reader cannot misread: word, size, interval, seeds, and what would change it."""

# ruff: noqa: RUF001 (readers are shown the true signs: ×, −)

import math
from collections.abc import Sequence

from twostage.analysis.agreement import Agreement
from twostage.analysis.comparison import Comparison, NotCompared
from twostage.analysis.intervals import ERROR_RATE, Interval
from twostage.analysis.pairs import SpeedUp
from twostage.analysis.planning import MOST_SEEDS, retraining_move
from twostage.analysis.verdict import Verdict

BOUNDS = {"at least": "≥ ", "at most": "≤ "}
MOST_DIGITS = 6


def strongest(comparisons: list[Comparison]) -> Comparison:
    """The one to tell first: faster arms before slower ones and open ones, then the one that is so by most for certain.

    Of open ones that with the smallest p-value.
    """
    return min(comparisons, key=_strength)


def headline(
    comparisons: list[Comparison], metric_label: str, num_stopped: int = 0, lost: Sequence[NotCompared] = ()
) -> str:
    """The strongest comparison in words, how many of all were decided, how many arms a race stopped, and lost ones."""
    best = strongest(comparisons)
    text = f"{best.generator_label} on “{best.arm_label}”: {sentence(best, metric_label)}"
    if len(comparisons) + len(lost) == 1:
        return text
    counts = _counts([each.verdict.word for each in comparisons], lost)
    stopped = f" Stopped as hopeless: {num_stopped} arm{'s' if num_stopped > 1 else ''}." if num_stopped else ""
    told = "".join(f" {not_compared_sentence(each)}" for each in lost)
    return f"{text} {counts}; each has an error rate of its own.{stopped}{told}"


def _counts(words: Sequence[str], lost: Sequence[NotCompared]) -> str:
    """Such as "Of all 3 comparisons: 1 faster, 1 undecided, 1 without a value"."""
    every = [*words, *("without a value" for _ in lost)]
    known = [word for word in ("faster", "slower", "undecided") if word in every]
    counts = ", ".join(f"{every.count(word)} {word}" for word in dict.fromkeys([*known, *every]))
    return f"Of all {len(every)} comparisons: {counts}"


def not_compared_sentence(each: NotCompared) -> str:
    """Such as "SiT on “Mine”: not compared, none of its seeds has a finite Fréchet distance."."""
    return f"{each.generator_label} on “{each.arm_label}”: not compared, {each.reason}."


def short_sentence(verdict: Verdict) -> str:
    """A verdict in one phrase for a terminal: "faster by 1.40 times (1.20 to 1.70)", "undecided: ..."."""
    if verdict.word == "undecided":
        return f"undecided: {_open(verdict)}"
    if verdict.ratio is None:
        return f"{verdict.word}, by how much the evaluated steps do not tell"
    if verdict.low is None:
        if (verdict.ratio > 1) != (verdict.word == "faster"):
            return f"{verdict.word}, by how much the evaluated steps do not tell"  # a bound beyond 1 bounds nothing
        at_least = verdict.kind == ("at least" if verdict.word == "faster" else "at most")
        return f"{verdict.word} by {'at least' if at_least else 'at most'} {factor(verdict)} times"
    return f"{verdict.word} by {factor(verdict)} times ({_interval(verdict, *_ends(verdict))})"


def _open(verdict: Verdict) -> str:
    """What keeps a verdict open, and what would decide it."""
    if verdict.seeds_needed is not None:
        more = verdict.seeds_needed - verdict.num_seeds
        return f"{more} more seed{'s' if more > 1 else ''} would probably decide"
    if verdict.hidden:
        return f"more than {MOST_SEEDS} seeds would be needed"
    return {
        "one seed": "one training per arm",
        "identical seeds": "the seeds gave identical numbers",
        "missing seeds": f"seed {', '.join(map(str, verdict.missing_seeds))} has no value at the last step",
        "measures disagree": "steps and the change after equally many steps disagree",
    }.get(verdict.reason, f"{seeds_text(verdict.num_seeds)} do not decide")


def _strength(comparison: Comparison) -> tuple[int, float]:
    verdict = comparison.verdict
    if verdict.word == "undecided":
        return 2, 1.0 if verdict.p is None else verdict.p
    ends = [end for end in (verdict.low, verdict.high) if end is not None] or [verdict.ratio or 1.0]
    return int(verdict.word == "slower"), -min(abs(math.log(end)) for end in ends)


def sentence(comparison: Comparison, metric_label: str) -> str:
    """The verdict on one arm, with its size, its interval, the seeds it rests on, and what would change it."""
    verdict = comparison.verdict
    if verdict.reason == "intervals":
        return _decided(comparison, metric_label)
    return {
        "one seed": _one_seed,
        "identical seeds": _identical,
        "missing seeds": _missing,
        "bounds": _contains_one,
        "contains 1": _contains_one,
        "measures disagree": _disagreeing,
    }[verdict.reason](comparison)


def _decided(comparison: Comparison, metric_label: str) -> str:
    verdict, change = comparison.verdict, change_text(comparison)
    all_bounds = {each.speed_up.kind for each in comparison.per_seed if each.speed_up is not None} == {verdict.kind}
    if all_bounds and verdict.kind == ("at least" if verdict.word == "faster" else "at most"):
        return f"{_decided_bound(comparison)} {change}"
    if verdict.ratio is None or verdict.low is None:
        listed = ", ".join(ratio_text(each.speed_up) for each in comparison.per_seed)
        return f"{verdict.word.capitalize()}: the seeds’ speed-ups are {listed}. {change}"
    sure = f"({interval_text(verdict)}; {seeds_text(verdict.num_seeds)})"
    if verdict.word == "faster":
        return f"Faster: reaches the same {metric_label} in {factor(verdict)} times fewer steps {sure}. {change}"
    return f"Slower: needs {factor(verdict)} times as many steps to the same {metric_label} {sure}. {change}"


def _decided_bound(comparison: Comparison) -> str:
    verdict = comparison.verdict
    assert verdict.ratio is not None, "what is decided has one"
    size = verdict.ratio if verdict.word == "faster" else 1 / verdict.ratio
    ahead, behind = ("the arm", "the control") if verdict.word == "faster" else ("the control", "the arm")
    word, unit = ("Faster", "times fewer steps") if verdict.word == "faster" else ("Slower", "times as many steps")
    return (
        f"{word}: at least {size:.2f} {unit} ({seeds_text(verdict.num_seeds)}; {ahead} was better at its first "
        f"evaluation than {behind} at its last). Evaluate earlier to see how much."
    )


def _one_seed(comparison: Comparison) -> str:
    own = comparison.per_seed[0].speed_up
    text = f"Undecided: one training per arm. This seed: {ratio_text(own)}."
    resolved = own is not None and own.log_ratio is not None
    if resolved and comparison.slope is not None and comparison.slope > 0:
        text += f" Retraining alone typically moves this number by ± {retraining_move(comparison.slope):.0%}."
    over = comparison.over_samples
    if over is not None:
        text += f" Over resampled images of this seed: {over.low:.2f} to {over.high:.2f}, which decides nothing."
    return text


def _identical(comparison: Comparison) -> str:
    return "Undecided: the seeds gave identical numbers. Are they different trainings?"


def _missing(comparison: Comparison) -> str:
    verdict = comparison.verdict
    left = ", ".join(map(str, verdict.missing_seeds))
    text = f"Undecided: seed {left} has no value at the last step, and a seed may not be dropped from a verdict."
    if verdict.low is not None:
        text += f" The other seeds: {verdict.ratio:.2f} times ({interval_text(verdict)})."
    return text


def _contains_one(comparison: Comparison) -> str:
    verdict = comparison.verdict
    if verdict.low is None:
        listed = ", ".join(ratio_text(each.speed_up) for each in comparison.per_seed)
        return f"Undecided: the seeds’ speed-ups are {listed}. {change_text(comparison)}{_more_seeds(verdict)}"
    return (
        f"Undecided: {verdict.ratio:.2f} times ({verdict.low:.2f} to {verdict.high:.2f}; "
        f"{seeds_text(verdict.num_seeds)}). The interval contains 1, so the same spread would arise between two equal "
        f"arms.{_more_seeds(verdict)}"
    )


def _disagreeing(comparison: Comparison) -> str:
    verdict = comparison.verdict
    if verdict.low is None:
        listed = ", ".join(ratio_text(each.speed_up) for each in comparison.per_seed)
        return f"Undecided: the seeds’ speed-ups are {listed} in steps, but {change_text(comparison, False)}"
    return (
        f"Undecided: {verdict.ratio:.2f} times ({verdict.low:.2f} to {verdict.high:.2f}; "
        f"{seeds_text(verdict.num_seeds)}) in steps, but {change_text(comparison, False)}{_more_seeds(verdict)}"
    )


def _more_seeds(verdict: Verdict) -> str:
    if verdict.seeds_needed is not None:
        more = verdict.seeds_needed - verdict.num_seeds
        planned = "" if verdict.level == ERROR_RATE else "; those beyond the planned ones belong to a new sweep"
        return f" About {more} more seed{'s' if more > 1 else ''} would probably decide it{planned}."
    if verdict.hidden and verdict.low is not None and verdict.high is not None:
        largest = max(verdict.high, 1 / verdict.low)
        return (
            f" More than {MOST_SEEDS} seeds would be needed: if there is a difference, it is smaller than the spread "
            f"between seeds can show; larger than {largest:.2f} times it is not likely to be."
        )
    return ""


def change_text(comparison: Comparison, capital: bool = True) -> str:
    """The change after equally many steps, with its interval: "After equally many steps 4.8 % better (1.0 to 8.5)."."""
    interval, start = comparison.verdict.change, "After" if capital else "after"
    if interval is None:
        return ""
    if not comparison.in_logs:
        ends = "" if interval.ends is None else f" ({' to '.join(map(_signed, interval.ends))})"
        return f"{start} equally many steps the value differs by {_signed(interval.mean)}{ends}."
    mean, ends = _percent(interval.mean), ""
    if interval.ends is not None:
        far, near = interval.ends if interval.mean < 0 else reversed(interval.ends)
        if far * near > 0:
            low, high = sorted(abs(100 * math.expm1(each)) for each in (far, near))
            ends = f" ({low:.1f} to {high:.1f})"
        else:
            ends = f" ({_percent(far)} to {_percent(near)})"
    return f"{start} equally many steps {mean}{ends}."


def _percent(log_change: float) -> str:
    return f"{abs(100 * math.expm1(log_change)):.1f} % {'better' if log_change < 0 else 'worse'}"


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")


def factor(verdict: Verdict) -> str:
    """How many times, of a slower arm the inverse: never a ratio below 1 in prose."""
    assert verdict.ratio is not None, "what is decided has one"
    return rounded(verdict.ratio if verdict.word != "slower" else 1 / verdict.ratio, verdict)


def interval_text(verdict: Verdict) -> str:
    """Such as "95 % interval 1.16 to 1.29", of a slower arm of the inverse; of a look another level."""
    return f"{interval_name(verdict)} {_interval(verdict, *_ends(verdict))}"


def rounded(ratio: float, verdict: Verdict) -> str:
    """Two digits behind the point, as many more as keep a decided verdict's number beside 1."""
    digits = 2
    while verdict.word != "undecided" and float(f"{ratio:.{digits}f}") == 1.0 != ratio and digits < MOST_DIGITS:
        digits += 1
    return f"{ratio:.{digits}f}"


def _interval(verdict: Verdict, low: float, high: float) -> str:
    return f"{rounded(low, verdict)} to {rounded(high, verdict)}"


def interval_name(verdict: Verdict) -> str:
    """Such as "95 % interval", or "97.71 % interval of this look"."""
    return f"{100 * (1 - verdict.level):.4g} % interval{'' if verdict.level == ERROR_RATE else ' of this look'}"


def _ends(verdict: Verdict) -> tuple[float, float]:
    """Of the interval, of a slower arm those of the inverse."""
    low, high = verdict.low, verdict.high
    assert low is not None, "told where there is an interval"
    assert high is not None, "told where there is an interval"
    return (low, high) if verdict.word != "slower" else (1 / high, 1 / low)


def seeds_text(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def ratio_text(speed_up: SpeedUp | None) -> str:
    """A seed's speed-up: 1.25×, ≥ 2.00×, ≤ 0.80×, not resolved; – where the level was not reached."""
    if speed_up is None:
        return "–"
    if speed_up.ratio is None:
        return "not resolved"
    return f"{BOUNDS.get(speed_up.kind, '')}{speed_up.ratio:.2f}×"


def size_text(verdict: Verdict) -> str:
    """How large a speed-up is: "1.22×", "≥ 4.00×", "–"."""
    return "–" if verdict.ratio is None else f"{BOUNDS.get(verdict.kind, '')}{rounded(verdict.ratio, verdict)}×"


def verdict_text(verdict: Verdict) -> str:
    """A verdict's size in a table: "1.22× (1.16 to 1.29)", "≥ 4.00×", "–"."""
    text, ends = size_text(verdict), ends_text(verdict)
    return f"{text} ({ends})" if ends else text


def ends_text(verdict: Verdict) -> str:
    """The interval's ends: "1.16 to 1.29"; empty without an interval."""
    if verdict.low is None or verdict.high is None:
        return ""
    return _interval(verdict, verdict.low, verdict.high)


def signed_percent(log_change: float) -> str:
    """−12.6%, +3.0%, of a log change, with a true minus sign."""
    return f"{math.expm1(log_change):+.1%}".replace("-", "−")


def change_interval_text(interval: Interval) -> str:
    """−12.6% to +3.0%; – without an interval."""
    return "–" if interval.ends is None else " to ".join(map(signed_percent, interval.ends))


def agreement_sentence(agreement: Agreement) -> str:
    """The study's verdict as the study's, the fresh seeds beside it, and whether they agree."""
    verdict = agreement.verdict
    published = f"Published: {short_sentence(verdict)}"
    if verdict.word == "undecided" and verdict.ratio is not None:
        published += f"; {verdict_text(verdict)}"
    values = ", ".join(agreement_values(agreement))
    seeds = f"seed{'s' if len(agreement.fresh) > 1 else ''} {', '.join(map(str, agreement.fresh))}"
    return f"{published}, {seeds_text(verdict.num_seeds)}. Yours, {seeds}: {values}{_agrees(agreement)}."


def agreement_headline(agreements: list[Agreement], lost: Sequence[NotCompared] = ()) -> str:
    """The first study and its fresh seeds in words, how many of all agree, and arms without a number."""
    first = agreement_sentence(agreements[0])
    if len(agreements) + len(lost) == 1:
        return first
    counts = _counts(
        [{True: "agree", False: "disagree", None: "cannot be told"}[each.agrees] for each in agreements], lost
    )
    name = f"{agreements[0].generator_label} on “{agreements[0].arm_label}”"
    told = "".join(f" {not_compared_sentence(each)}" for each in lost)
    return f"{name}: {first} {counts}.{told}"


def agreement_values(agreement: Agreement) -> list[str]:
    """Of each fresh seed, in words."""
    return [_fresh_value(agreement, value) for value in agreement.fresh.values()]


def _fresh_value(agreement: Agreement, value: float) -> str:
    if agreement.quantity == "log speed-up":
        return f"{math.exp(value):.2f} times"
    return signed_percent(value) if agreement.quantity == "log change" else _signed(value)


def _agrees(agreement: Agreement) -> str:
    if agreement.repeated:
        return f". Seed {', '.join(map(str, agreement.repeated))} repeats a number of another: no fresh training"
    if agreement.low is None or agreement.high is None:
        return ", and one seed of a study foretells nothing"
    low, high = (_fresh_value(agreement, end).removesuffix(" times") for end in (agreement.low, agreement.high))
    several = f"the mean of {len(agreement.fresh)}" if len(agreement.fresh) > 1 else "a fresh seed"
    expected = f"{several} falls between {low} and {high} in 95 of 100 cases"
    if agreement.agrees is None:
        return f". A value is missing ({expected})"
    return f": {'agrees' if agreement.agrees else 'disagrees'}, {expected}"

"""Which arms of a sweep are hopeless at a look: a race in which every arm runs against every other one.

Successive elimination by paired intervals, as Hoeffding races have it (Maron and Moore, 1994) with Student's t in the
place of Hoeffding's bound. The verdicts on arms know nothing of the race: their levels are those of all planned looks,
whoever stops when (a futility boundary that is not binding), so no verdict errs more often than without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twostage.analysis.comparison import verdict_between
from twostage.analysis.intervals import level_of_look
from twostage.analysis.records import Defeat, StoppedArm, SweepResults
from twostage.analysis.verdict import Verdict

Judge = Callable[[str, str, str, float], Verdict | None]
"""The verdict on an arm against a rival, with a generator, at a two-sided level; None where no seed has both."""


@dataclass(frozen=True)
class Race:
    """The rule by which arms are stopped.

    An arm is hopeless with a generator if some arm that still runs is faster, by the sweep's own verdict at the level
    of the look over the number of rivals (Bonferroni). So a rival takes the best arm in at most one of 27 sweeps of up
    to fifty arms (`studies.racing.bound`). With `smallest_speed_up` it is hopeless, too, if its interval of the
    speed-up over the control lies below that: of arms that are so much faster at most one in forty is stopped. An arm
    is stopped if it is hopeless with every generator. Arms with a missing value are never stopped, and stop nobody.

    Args:
        control: is never stopped, for every verdict needs it.
        generators: by name.
        num_arms: of the sweep, the control and stopped ones among them.
        max_seeds: that the looks were planned for.
        smallest_speed_up: over the control; None: no size is asked for.
    """

    control: str
    generators: Sequence[str]
    num_arms: int
    max_seeds: int
    smallest_speed_up: float | None = None

    def stopped(self, running: Sequence[str], seeds: Sequence[int], judge: Judge) -> list[StoppedArm]:
        """The hopeless arms among those that run, in their order, all judged by the same seeds.

        Args:
            running: arms that were not stopped before, the control among them.
            seeds: that all of them have.
            judge: of these seeds.
        """
        found = []
        for arm in running:
            if arm == self.control:
                continue
            defeats = [self._defeat(arm, running, generator, judge) for generator in self.generators]
            lost = [each for each in defeats if each is not None]
            if len(lost) == len(self.generators):
                found.append(StoppedArm(arm, list(seeds), lost))
        return found

    def _defeat(self, arm: str, running: Sequence[str], generator: str, judge: Judge) -> Defeat | None:
        """By the rival that is faster for the most certain; else by the size that the arm does not reach."""
        level = level_of_look(self.max_seeds)
        faster: list[tuple[float, Defeat]] = []
        for rival in running:
            verdict = judge(arm, rival, generator, level / (self.num_arms - 1)) if rival != arm else None
            if verdict is not None and verdict.word == "slower":
                faster.append((1.0 if verdict.p is None else verdict.p, _by(verdict, generator, rival, None)))
        if faster:
            return min(faster, key=lambda each: each[0])[1]
        if self.smallest_speed_up is None:
            return None
        verdict = judge(arm, self.control, generator, level)
        if verdict is None or verdict.high is None or verdict.missing_seeds:
            return None
        reaches = verdict.high >= self.smallest_speed_up
        return None if reaches else _by(verdict, generator, self.control, self.smallest_speed_up)


def _by(verdict: Verdict, generator: str, rival: str, smallest: float | None) -> Defeat:
    return Defeat(generator, rival, smallest, verdict.ratio, verdict.low, verdict.high, verdict.level, verdict.p)


def hopeless_arms(results: SweepResults, smallest_speed_up: float | None = None) -> list[StoppedArm]:
    """The arms that are hopeless by a look's results: all that still run have all of its seeds.

    Args:
        results: with `max_seeds`; arms stopped at earlier looks are named in it.
        smallest_speed_up: as of `Race`.
    """
    assert results.max_seeds is not None, "a race has looks"
    generators = [generator.name for generator in results.generators]
    race = Race(results.control, generators, len(results.arms), results.max_seeds, smallest_speed_up)

    def judge(arm: str, rival: str, generator: str, level: float) -> Verdict | None:
        return verdict_between(results, arm, rival, generator, level)

    return race.stopped([arm.name for arm in results.racing_arms], results.seeds, judge)


def stop_sentence(results: SweepResults, stopped: StoppedArm) -> str:
    """Who was stopped, after which seed, by which numbers."""
    labels = {arm.name: arm.label for arm in results.arms}
    generators = {each.name: each.label for each in results.generators}
    seeds = f"{len(stopped.seeds)} of at most {results.max_seeds} seeds"
    several = len(stopped.defeats) > 1
    why = "; ".join(
        f"{f'with {generators[each.generator]} ' if several else ''}{_defeat_text(each, labels)}"
        for each in stopped.defeats
    )
    return f"{labels[stopped.arm]} was stopped after seed {stopped.seeds[-1]} ({seeds}): {why}."


def stop_note(results: SweepResults, stopped: StoppedArm) -> str:
    """The same, and what is said of the arm by how many seeds."""
    seeds = ", ".join(map(str, stopped.seeds))
    return f"{stop_sentence(results, stopped)} All that is said of it rests on seeds {seeds}; no verdict knows of it."


def _defeat_text(defeat: Defeat, labels: dict[str, str]) -> str:
    rival = labels[defeat.rival]
    if defeat.smallest_speed_up is not None:
        return (
            f"its speed-up over {rival} lies below {defeat.smallest_speed_up:.2f} times: {defeat.ratio:.2f} times "
            f"({_interval(defeat)})"
        )
    if defeat.ratio is None or defeat.low is None or defeat.high is None:
        return f"{rival} is faster by the values after equally many steps (p {defeat.p:.2g})"
    return f"{rival} is {1 / defeat.ratio:.2f} times faster ({_interval(defeat, inverse=True)})"


def _interval(defeat: Defeat, inverse: bool = False) -> str:
    assert defeat.low is not None, "told where there is an interval"
    assert defeat.high is not None, "told where there is an interval"
    low, high = (1 / defeat.high, 1 / defeat.low) if inverse else (defeat.low, defeat.high)
    return f"{100 * (1 - defeat.level):.4g} % interval {low:.2f} to {high:.2f}"

"""What stopping hopeless arms saves, and how often it errs: sweeps that are simulated, and made of recorded trainings.

`python -m studies.racing` prints the tables of docs/racing.md, in under three minutes of one core.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.special import stdtr

from studies.simulated_curves import POINTS, simulate_arms
from twostage.analysis.comparison import curves_by_seed
from twostage.analysis.curves import LearningCurve
from twostage.analysis.intervals import FIRST_LOOK, level_of_look
from twostage.analysis.pairs import SpeedUp, changes_at_equal_steps, speed_up
from twostage.analysis.racing import Race
from twostage.analysis.verdict import Verdict, Word, verdict_over_seeds
from twostage.verify import find_study, read_study

CONTROL = "0"
STEPS = tuple(np.round(1000 * POINTS))
NUM_SWEEPS, SEED = 250, 20261129
SIZE = 1.1  # that is asked for, where one is
NUM_PATHS = 100_000

Arms = dict[str, list[LearningCurve]]
"""Curves by arm and seed; the control is "0"."""


@dataclass
class Trainings:
    """A sweep all of whose trainings are known beforehand, and the verdicts on its first so many seeds."""

    arms: Arms
    pairs: dict[tuple[str, str], list[tuple[SpeedUp, float]]] = field(default_factory=dict)

    def measures(self, arm: str, rival: str) -> list[tuple[SpeedUp, float]]:
        """(speed-up over the rival, change against it at the last step) of each seed."""
        if (arm, rival) not in self.pairs:
            both = zip(self.arms[rival], self.arms[arm], strict=True)
            self.pairs[arm, rival] = [(speed_up(*pair), _last(changes_at_equal_steps(*pair))) for pair in both]
        return self.pairs[arm, rival]

    def verdict(self, arm: str, rival: str, num_seeds: int, level: float) -> Verdict:
        speed_ups, changes = zip(*self.measures(arm, rival)[:num_seeds], strict=True)
        return verdict_over_seeds(dict(enumerate(speed_ups)), dict(enumerate(changes)), level=level)

    def is_ahead(self, arm: str, rival: str, num_seeds: int) -> bool:
        """Whether the arm's mean is better: then no verdict can be that it is slower."""
        ends = [[curve.values[-1] for curve in self.arms[name][:num_seeds]] for name in (arm, rival)]
        return bool(np.mean(np.log(ends[0])) <= np.mean(np.log(ends[1])))


def _last(changes: dict[float, float]) -> float:
    return changes[max(changes)]


@dataclass(frozen=True)
class Played:
    """How a sweep went.

    Args:
        num_seeds, words: seeds and last verdict of each arm.
        ever: arms that had a verdict at some look.
        stopped: the rival by whom each arm was stopped; None: by the size asked for.
    """

    num_seeds: dict[str, int]
    words: dict[str, Word]
    ever: set[str]
    stopped: dict[str, str | None]


def play(trainings: Trainings, race: Race | None) -> Played:
    """A sweep until every verdict stands, as `twostage.sweep` runs it.

    Args:
        race: None: no arm is stopped.
    """
    arms, most = list(trainings.arms), len(trainings.arms[CONTROL])
    level, running = level_of_look(most), list(arms)
    counts, words, ever, stopped = dict.fromkeys(arms, 0), {}, set(), {}
    for count in range(FIRST_LOOK, most + 1):
        treated = [arm for arm in running if arm != CONTROL]
        counts |= dict.fromkeys(running, count)
        words |= {arm: trainings.verdict(arm, CONTROL, count, level).word for arm in treated}
        ever |= {arm for arm in treated if words[arm] != "undecided"}
        if count == most or all(words[arm] != "undecided" for arm in treated):
            break
        for each in race.stopped(running, range(count), partial(_judge, trainings, count)) if race else ():
            running.remove(each.arm)
            defeat = each.defeats[0]
            stopped[each.arm] = None if defeat.smallest_speed_up else defeat.rival
        if all(words[arm] != "undecided" for arm in running if arm != CONTROL):
            break
    return Played(counts, words, ever, stopped)


def _judge(trainings: Trainings, count: int, arm: str, rival: str, generator: str, level: float) -> Verdict | None:
    """None in place of verdicts between arms of which it is plain that they are not "slower", to save time."""
    if rival != CONTROL and trainings.is_ahead(arm, rival, count):
        return None
    return trainings.verdict(arm, rival, count, level)


@dataclass(frozen=True)
class Scenario:
    """Sweeps of one kind.

    Args:
        name: in the table.
        speed_ups: true ones over the control, by arm, the control among them.
        draw: trainings of one sweep.
    """

    name: str
    speed_ups: dict[str, float]
    draw: Callable[[np.random.Generator], Arms]


@dataclass(frozen=True)
class Rates:
    """Shares over sweeps of a scenario.

    Args:
        saved: of the trainings that the same sweeps take without a race.
        num_seeds: without a race, mean.
        best_lost: sweeps in which the best arm was stopped; nan where it is not one alone.
        wrongly: arms that were stopped by one that is no faster, or though they are as fast as was asked for.
        stopped: arms, of those that are no better than the best and not the control.
        ever_before, ever_after: arms as fast as the control that had a verdict at some look, without and with a race;
            what the levels of the looks are planned for. Nan where there is no such arm.
        false_before, false_after: the same at the end, as reports say it.
    """

    saved: float
    num_seeds: float
    best_lost: float
    wrongly: float
    stopped: float
    ever_before: float
    ever_after: float
    false_before: float
    false_after: float


def rates(scenario: Scenario, sweeps: Sequence[Trainings], smallest: float | None = None) -> Rates:
    """Of racing these sweeps, every one of which is also run without."""
    true, most = scenario.speed_ups, len(sweeps[0].arms[CONTROL])
    race = Race(CONTROL, ["sit"], len(true), most, smallest)
    plain, raced = ([play(each, rule) for each in sweeps] for rule in (None, race))
    fastest = [arm for arm, ratio in true.items() if ratio == max(true.values())]
    alone = len(fastest) == 1 and fastest[0] != CONTROL
    treated, equal = [arm for arm in true if arm != CONTROL], [arm for arm, ratio in true.items() if ratio == 1]
    equal.remove(CONTROL)
    wrong = [_is_wrong(true, arm, rival, smallest) for each in raced for arm, rival in each.stopped.items()]
    return Rates(
        saved=1 - _trainings(raced) / _trainings(plain),
        num_seeds=float(np.mean([each.num_seeds[CONTROL] for each in plain])),
        best_lost=_share(fastest[0] in each.stopped for each in raced) if alone else float("nan"),
        wrongly=sum(wrong) / (len(raced) * len(treated)),
        stopped=sum(len(each.stopped) for each in raced) / (len(raced) * len(treated)),
        ever_before=_share(arm in each.ever for each in plain for arm in equal),
        ever_after=_share(arm in each.ever for each in raced for arm in equal),
        false_before=_share(each.words[arm] != "undecided" for each in plain for arm in equal),
        false_after=_share(each.words[arm] != "undecided" for each in raced for arm in equal),
    )


def _is_wrong(true: dict[str, float], arm: str, rival: str | None, smallest: float | None) -> bool:
    if rival is None:
        assert smallest is not None, "a size was asked for"
        return true[arm] >= smallest
    return true[arm] >= true[rival]


def _trainings(played: Sequence[Played]) -> int:
    return sum(sum(each.num_seeds.values()) for each in played)


def _share(values: Iterator[bool]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else float("nan")


def simulated(name: str, shape: str, speed_ups: Sequence[float], max_seeds: int = 10) -> Scenario:
    """Sweeps by the model of `studies.simulated_curves`, the control first."""

    def draw(generator: np.random.Generator) -> Arms:
        values = simulate_arms(shape, speed_ups, max_seeds, generator)
        return {str(arm): [LearningCurve(STEPS, each) for each in own] for arm, own in enumerate(values)}

    return Scenario(name, {str(arm): ratio for arm, ratio in enumerate(speed_ups)}, draw)


def resampled(study: str, shares: Sequence[float], max_seeds: int = 10) -> Scenario:
    """Sweeps of recorded trainings: mean curves of a study's two arms, with the deviations of its trainings.

    Args:
        study: packaged one.
        shares: of the treated arm in each arm's mean log curve: 0 is the control, 1 the treated arm, -1 as far on the
            other side. Deviations of whole curves are drawn from all trainings of both arms, different ones in a seed.
    """
    results = read_study(find_study(study))
    generator = results.generators[0].name
    treated = results.treated_arms[0].name
    both = [curves_by_seed(results, arm, generator) for arm in (results.control, treated)]
    steps = next(iter(both[0].values())).steps
    logs = [np.log([curve.values for curve in own.values()]) for own in both]
    means = [own.mean(0) for own in logs]
    spread = [np.sqrt(len(own) / (len(own) - 1)) for own in logs]  # deviations from a mean of their own are too small
    deviations = np.concatenate([(own - mean) * by for own, mean, by in zip(logs, means, spread, strict=True)])
    centres = [means[0] + share * (means[1] - means[0]) for share in shares]

    def draw(random: np.random.Generator) -> Arms:
        picks = np.stack([random.permutation(len(deviations))[: len(shares)] for _ in range(max_seeds)])
        return {
            str(arm): [LearningCurve(steps, np.exp(centre + deviations[pick])) for pick in picks[:, arm]]
            for arm, centre in enumerate(centres)
        }

    exact = [LearningCurve(steps, np.exp(centre)) for centre in centres]
    true = {str(arm): speed_up(exact[0], curve).ratio or 1.0 for arm, curve in enumerate(exact)}
    return Scenario(f"{study}: {', '.join(f'{ratio:.2f}' for ratio in true.values())}", true, draw)


def scenarios() -> list[Scenario]:
    """Those of the page."""
    named = [
        ("all equal", (1, 1, 1, 1)),
        ("one good", (1, 1, 1, 1.25)),
        ("a ladder", (1, 0.9, 1.1, 1.25)),
        ("two good", (1, 1, 1.2, 1.25)),
        ("one a little better", (1, 1, 1, 1.1)),
    ]
    found = [simulated(f"{name}: {', '.join(map(str, true))}", "mid", true) for name, true in named]
    found.append(simulated("a ladder, at most 5 seeds", "mid", (1, 0.9, 1.1, 1.25), 5))
    found.append(simulated("a ladder, flatter curves", "shapes", (1, 0.9, 1.1, 1.25)))
    found.append(simulated("eight arms: five of 1, 1.1, 1.1, 1.25", "mid", (1, 1, 1, 1, 1, 1.1, 1.1, 1.25)))
    return found + [resampled(study, (0, -0.25, 0.5, 1)) for study in ("demo", "scenes")]


def draw_sweeps(scenario: Scenario, count: int = NUM_SWEEPS, seed: int = SEED) -> list[Trainings]:
    draw = np.random.default_rng(seed)
    return [Trainings(scenario.draw(draw)) for _ in range(count)]


def bound(max_seeds: int, num_rivals: int, num_paths: int = NUM_PATHS, seed: int = SEED) -> float:
    """Most often that the best of equal arms is called slower than one of its rivals, one side of the t test.

    The rate of one rival, at the level over their number, times their number.
    """
    level, crossed = level_of_look(max_seeds) / num_rivals, np.zeros(num_paths, bool)
    values = np.random.default_rng(seed).normal(size=(num_paths, max_seeds))
    for count in range(FIRST_LOOK, max_seeds + 1):
        part = values[:, :count]
        t = part.mean(1) / part.std(1, ddof=1) * np.sqrt(count)
        crossed |= stdtr(count - 1, -np.abs(t)) < level / 2
    return float(crossed.mean()) / 2 * num_rivals


def tables() -> Iterator[str]:
    """What the page shows, line by line."""
    heads = ["sweeps", "seeds without a race", "trainings saved", "arms stopped", "wrongly", "best arm lost"]
    yield f"| {' | '.join([*heads, 'false verdicts at some look', 'in the report'])} |"
    yield f"| --- {'| --- ' * 7}|"
    for scenario in scenarios():
        sweeps = draw_sweeps(scenario)
        for smallest in (None, SIZE):
            found = rates(scenario, sweeps, smallest)
            name = scenario.name if smallest is None else f"the same, {SIZE} times asked for"
            cells = [_percent(each) for each in (found.saved, found.stopped, found.wrongly, found.best_lost)]
            both = ((found.ever_before, found.ever_after), (found.false_before, found.false_after))
            cells += ["-" if np.isnan(before) else f"{before:.1%} → {after:.1%}" for before, after in both]
            yield f"| {name} | {found.num_seeds:.1f} | {' | '.join(cells)} |"
    yield ""
    yield f"| at most | {' | '.join(f'{rivals + 1} arms' for rivals in (1, 3, 7, 15))} |"
    yield f"| --- {'| --- ' * 4}|"
    for most in (5, 10, 20):
        yield f"| {most} seeds | {' | '.join(f'{bound(most, rivals):.1%}' for rivals in (1, 3, 7, 15))} |"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    for line in tables():
        print(line, flush=True)

"""What looking at a sweep costs its error rates: `python -m studies.looks` simulates it, three minutes of a core.

- Equal arms that are looked at once at 95 %, and then gone on with until decided, as an open sweep's next command does.
- Fresh seeds beside a study that stopped when it was decided, which `verify` holds against its prediction interval.
- The speed-up that `compare` says it would see in nine of ten cases, under the spread that it names.
"""

import argparse

import numpy as np

from studies.racing import CONTROL, STEPS, Trainings
from studies.simulated_curves import simulate
from studies.sweep_table import table
from twostage.analysis.agreement import prediction_interval
from twostage.analysis.curves import LearningCurve
from twostage.analysis.intervals import ERROR_RATE, FIRST_LOOK, level_of_look
from twostage.compare.budget import SLOPE, TRAINING_SD, Rung, distance_sd, expected_ratio

SEED, ARM, MOST_SEEDS, EFFECT_SD = 20261130, "1", 10, 0.03
TRUE_RATIO = 1.1  # of the studies that are verified
RUNGS = (Rung("small", 200, 100, 5), Rung("small", 400, 200, 7), Rung("medium", 1131, 566, 10))


def sweep(shape: str, ratio: float, num_seeds: int, draw: np.random.Generator) -> Trainings:
    """All trainings of a sweep of two arms."""
    arms = simulate(shape, ratio, num_seeds, draw)
    return Trainings(
        {name: [LearningCurve(STEPS, row) for row in rows] for name, rows in zip((CONTROL, ARM), arms, strict=True)}
    )


def decided_after(trainings: Trainings, most: int, first: int = FIRST_LOOK) -> int | None:
    """Seeds of the first look with a verdict, of the looks from `first` to `most`; None where none has one."""
    level = level_of_look(most)
    looks = range(first, most + 1)
    return next((n for n in looks if trainings.verdict(ARM, CONTROL, n, level).word != "undecided"), None)


def continued(num_seeds: int, num_sweeps: int) -> tuple[float, float]:
    """Shares of equal arms that are called different at 95 %, and at that look or one of those that follow."""
    draw, once, ever = np.random.default_rng(SEED), 0, 0
    for _ in range(num_sweeps):
        trainings = sweep("mid", 1.0, MOST_SEEDS, draw)
        first = trainings.verdict(ARM, CONTROL, num_seeds, ERROR_RATE).word != "undecided"
        once += first
        ever += first or decided_after(trainings, MOST_SEEDS, num_seeds + 1) is not None
    return once / num_sweeps, ever / num_sweeps


def disagreeing(num_sweeps: int) -> list[list[str]]:
    """Rows: how a study ended, how many did, and in how many of them a fresh seed falls outside its interval."""
    draw, outside = np.random.default_rng(SEED), []
    for _ in range(num_sweeps):
        trainings = sweep("mid", TRUE_RATIO, MOST_SEEDS + 1, draw)
        logs = [speed_up.log_ratio for speed_up, _ in trainings.measures(ARM, CONTROL)]
        stopped = decided_after(trainings, MOST_SEEDS) or MOST_SEEDS
        outside.append((stopped, _is_outside(logs[:stopped], logs[-1]), _is_outside(logs[:-1], logs[-1])))
    stops, stopped, fixed = (np.array(each) for each in zip(*outside, strict=True))
    early = stops <= FIRST_LOOK + 1
    return [
        [name, f"{len(found):,}", f"{np.mean(found):.1%}"]
        for name, found in (
            ("ten seeds, fixed", fixed),
            ("`until_decided`", stopped),
            ("of these, stopped at 3 or 4 seeds", stopped[early]),
        )
    ]


def _is_outside(logs: list[float], fresh: float) -> bool:
    ends = prediction_interval(logs, 1)
    assert ends is not None, "noise gives no identical seeds"
    return not ends[0] <= fresh <= ends[1]


def seen(rung: Rung, num_sweeps: int) -> tuple[float, float]:
    """Shares of sweeps of a plan that find the speed-up it promises: at the last look, and at some look."""
    draw, last, some = np.random.default_rng(SEED), 0, 0
    samples, level = np.sqrt(distance_sd(rung) ** 2 - TRAINING_SD**2), level_of_look(rung.num_seeds)
    steps = np.array(rung.at_steps) / rung.num_steps
    for _ in range(num_sweeps):
        varying = expected_ratio(rung) * np.exp(EFFECT_SD * draw.normal(size=(rung.num_seeds, 1)))
        arms = {}
        for name, speeds in ((CONTROL, np.ones_like(varying)), (ARM, varying)):
            noise = TRAINING_SD * draw.normal(size=speeds.shape) + samples * draw.normal(size=(len(speeds), len(steps)))
            values = (speeds * steps) ** -SLOPE * np.exp(noise)
            arms[name] = [LearningCurve(rung.at_steps, row) for row in values]
        trainings = Trainings(arms)
        last += trainings.verdict(ARM, CONTROL, rung.num_seeds, level).word == "faster"
        some += decided_after(trainings, rung.num_seeds) is not None
    return last / num_sweeps, some / num_sweeps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--num-sweeps", type=int, default=1500, help="simulated ones of each kind (default %(default)s)"
    )
    num_sweeps = parser.parse_args().num_sweeps
    rows = [[str(n), *(f"{share:.1%}" for share in continued(n, num_sweeps))] for n in (3, 4, 5, 6)]
    print(table(["seeds", "called different at 95 %", "there or when gone on with"], rows), end="\n\n")
    print(table(["study", "studies", "a fresh seed disagrees"], disagreeing(num_sweeps)), end="\n\n")
    plans = [
        [f"{each.num_seeds} seeds, {each.num_images} samples", f"{expected_ratio(each):.2f}",
         *(f"{share:.1%}" for share in seen(each, num_sweeps))]
        for each in RUNGS
    ]  # fmt: skip
    print(table(["plan", "promised ratio", "seen at the last look", "at some look"], plans))


if __name__ == "__main__":
    main()

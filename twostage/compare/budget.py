"""What a given time buys: generator, steps, samples and seeds, from what each part of a comparison takes here.

Everything here is a function of its arguments; times are measured in `timing`. Plans stand on one ladder, on which no
number falls, and the highest one that fits is taken: more time never buys fewer seeds, steps or samples.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from twostage.analysis.intervals import FIRST_LOOK, SEQUENTIAL_LEVELS, level_of_look
from twostage.analysis.planning import ratio_seen, speed_up_sd
from twostage.report.text import format_duration

SHARES_OF_STEPS = (0.25, 0.5, 0.63, 0.79, 1.0)
"""Evaluation points: the last three a factor of 2^(1/3) apart, for there most levels are reached."""

USED_SHARE = 0.85  # of the time that is planned with: the rest is for what the timing did not see
STEPS, IMAGES = 200, 100  # of the lowest rung
RUNGS_PER_DOUBLING = 4  # of steps and images
RUNGS_PER_SEED = 2
ONLY_SEEDS = 2  # lowest rungs that add a seed and nothing else: with three, Student's t costs more than all the rest
MOST_IMAGES = 5000
GRID_IMAGES = 10  # that every measurement samples beside its own, for the report

SLOPE = 0.3  # assumed: the distance falls as steps to the power -0.3
TRAINING_SD = 0.015  # relative, of a distance between trainings: this project's sweeps
POINTS = 1.08  # widens it: noise of single points, and a second interval that must agree (studies/looks.py)
SAMPLING_SD, SAMPLING_IMAGES = 0.012, 1000  # relative, of a distance between sets of so many samples: assumed


@dataclass(frozen=True)
class Size:
    """A generator: width of its tokens, blocks, heads, and AdamW's learning rate.

    Args:
        from_steps: it is taken for trainings of so many steps or more.
    """

    hidden_size: int
    depth: int
    num_heads: int
    learning_rate: float
    from_steps: int

    @property
    def label(self) -> str:
        return f"SiT, {self.depth} blocks of {self.hidden_size}"


SIZES = {
    "small": Size(64, 4, 2, 2e-3, 0),
    "medium": Size(128, 6, 4, 2e-3, 800),
    "large": Size(256, 8, 4, 1e-3, 3200),
}
"""By name, from small to large."""


@dataclass(frozen=True)
class Costs:
    """Seconds that each part takes on this machine.

    Args:
        ready: to take over a ready autoencoder.
        diagnosis: to measure an autoencoder.
        tuning_start, tuning_step: of a fine-tuning; 0 where there is none.
        encoding_start, encoded_image: of a latent cache.
        reference_image: of the real images' features.
        training_start, training_step: of a generator, by its size; sizes that are too dear for the budget are absent.
        measuring_start, sampled_image: of a measurement, the latter by size.
        look: to plan and gather one look, its workers' start included.
        report: to write it.
    """

    ready: float
    diagnosis: float
    tuning_start: float
    tuning_step: float
    encoding_start: float
    encoded_image: float
    reference_image: float
    training_start: float
    training_step: dict[str, float]
    measuring_start: float
    sampled_image: dict[str, float]
    look: float
    report: float


@dataclass(frozen=True)
class Work:
    """What is to be compared, as far as it costs time.

    Args:
        num_arms, num_trained: autoencoders, and how many of them are fine-tuned in every seed.
        num_taken_over: that are measured and encoded once as they are; also what fine-tuning starts from.
        tuning_steps: of each fine-tuning.
        num_train, num_held_out: images.
        num_workers: processes side by side; 0 works in the process itself.
    """

    num_arms: int
    num_trained: int
    num_taken_over: int
    tuning_steps: int
    num_train: int
    num_held_out: int
    num_workers: int

    def rounds(self, num_branches: int) -> int:
        """How often the processes are filled until so many branches of a seed have had their turn."""
        return math.ceil(num_branches / max(1, self.num_workers))


@dataclass(frozen=True)
class Rung:
    """What a comparison spends: a generator's size and steps, samples of each measurement, and the most seeds."""

    size: str
    num_steps: int
    num_images: int
    num_seeds: int

    @property
    def at_steps(self) -> list[int]:
        """Where generators are measured."""
        return [round(share * self.num_steps) for share in SHARES_OF_STEPS]


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `10m`, `2h`.

    Raises:
        ValueError: for anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or float(found[1]) == 0:
        raise ValueError(f"--budget {text!r} is no time: write 90s, 10m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def ladder(num_held_out: int) -> Iterator[Rung]:
    """All plans there are, from the cheapest on, up to the most seeds; no number falls from one to the next."""
    most = max(SEQUENTIAL_LEVELS) - FIRST_LOOK - ONLY_SEEDS
    for number in range(-ONLY_SEEDS, RUNGS_PER_SEED * most + 1):
        growth = 2 ** (max(0, number) / RUNGS_PER_DOUBLING)
        steps, images = round(STEPS * growth), min(round(IMAGES * growth), MOST_IMAGES, num_held_out)
        size = [name for name, about in SIZES.items() if about.from_steps <= steps][-1]
        more = number if number < 0 else number // RUNGS_PER_SEED
        yield Rung(size, steps, images, FIRST_LOOK + ONLY_SEEDS + more)


def seconds_of(rung: Rung, work: Work, costs: Costs) -> float:
    """What a plan takes if all its seeds are needed; of a size that was not timed, infinite."""
    if rung.size not in costs.training_step:
        return math.inf
    cached = costs.encoding_start + work.num_train * costs.encoded_image
    tuned = costs.tuning_start + work.tuning_steps * costs.tuning_step + costs.diagnosis + cached
    trained = costs.training_start + rung.num_steps * costs.training_step[rung.size]
    sampled = (rung.num_images + GRID_IMAGES) * costs.sampled_image[rung.size]
    measured = trained + len(rung.at_steps) * (costs.measuring_start + sampled)
    a_seed = work.rounds(work.num_arms) * measured + work.rounds(work.num_trained) * tuned
    once = work.num_taken_over * (costs.ready + costs.diagnosis + cached) + rung.num_images * costs.reference_image
    looks = rung.num_seeds - FIRST_LOOK + 1
    return once + rung.num_seeds * a_seed + looks * costs.look + costs.report


def choose(work: Work, costs: Costs, budget: float, spent: float = 0.0) -> Rung:
    """The highest plan that fits.

    Args:
        budget: seconds in all.
        spent: of them, the timing.

    Raises:
        ValueError: for a budget that holds none, naming the smallest that would.
    """
    fitting = [
        rung for rung in ladder(work.num_held_out) if seconds_of(rung, work, costs) <= USED_SHARE * (budget - spent)
    ]
    if not fitting:
        raise ValueError(
            f"--budget {duration(budget)} is too small here: the smallest comparison takes "
            f"{duration(smallest_budget(work, costs, spent))}; give that or more"
        )
    return fitting[-1]


def smallest_budget(work: Work, costs: Costs, spent: float = 0.0) -> float:
    """Seconds that hold the lowest rung, in whole minutes, or below ten minutes in whole 10 seconds."""
    needed = spent + seconds_of(next(ladder(work.num_held_out)), work, costs) / USED_SHARE
    unit = 10 if needed < 600 else 60
    return unit * math.ceil(needed / unit)


def affordable(size: str, work: Work, costs: Costs, budget: float) -> bool:
    """Whether a size may be worth timing: whether it would fit if its steps took no longer than the largest timed."""
    nearest = list(costs.training_step)[-1]
    as_dear = (Rung(nearest, rung.num_steps, rung.num_images, rung.num_seeds)
               for rung in ladder(work.num_held_out) if rung.size == size)  # fmt: skip
    return any(seconds_of(rung, work, costs) <= USED_SHARE * budget for rung in as_dear)


def duration(seconds: float) -> str:
    """As `--budget` takes it: 90s, 10m, 2h, 150s."""
    whole = round(seconds)
    for unit, length in (("h", 3600), ("m", 60)):
        if whole and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def planned_sd(rung: Rung) -> float:
    """Assumed standard deviation of a seed's log speed-up, by how trainings and samples differ."""
    return POINTS * speed_up_sd(SLOPE, distance_sd(rung))


def distance_sd(rung: Rung) -> float:
    """Assumed relative standard deviation of a distance from seed to seed: of trainings, and of sets of samples."""
    return math.hypot(TRAINING_SD, SAMPLING_SD * math.sqrt(SAMPLING_IMAGES / rung.num_images))


def expected_ratio(rung: Rung) -> float:
    """The true speed-up that the last look would see in nine of ten cases; earlier looks only add to it."""
    return ratio_seen(planned_sd(rung), rung.num_seeds, level_of_look(rung.num_seeds))


def plan_lines(rung: Rung, seconds: float, budget: float) -> list[str]:
    """The plan and what it would see, for people."""
    points, last = ", ".join(f"{step:,}" for step in rung.at_steps[:-1]), rung.at_steps[-1]
    seeds = f"{FIRST_LOOK} to {rung.num_seeds} seeds, until decided" if rung.num_seeds > FIRST_LOOK else "3 seeds"
    return [
        f"plan: {SIZES[rung.size].label}, measured at {points} and {last:,} steps with {rung.num_images:,} samples "
        f"each; {seeds}; at most {format_duration(seconds)} of {format_duration(budget)}",
        f"power: would see {expected_ratio(rung):.2f} times in 9 of 10 cases, if distances vary by "
        f"{distance_sd(rung):.1%} from seed to seed ({TRAINING_SD:.1%} between trainings, as in this project's sweeps, "
        f"the rest between sets of so many samples) and fall as steps to the power -{SLOPE}",
    ]

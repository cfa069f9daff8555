"""What a sweep measured, as plain values: the first half of report.json."""

import math
from dataclasses import dataclass, field
from typing import Any, Self

from twostage.analysis.from_json import build_record

START = "start"
"""Name of the common start autoencoder among the arms of a table."""


@dataclass(frozen=True)
class Arm:
    """An autoencoder under comparison.

    Args:
        treatment: what its fine-tuning is meant to give it: "equivariance", or None for whatever is not checked.
    """

    name: str
    label: str
    description: str = ""
    treatment: str | None = None


@dataclass(frozen=True)
class GeneratorEntry:
    """A generator of the sweep."""

    name: str
    label: str


@dataclass(frozen=True)
class AutoencoderMeasurement:
    """An arm's autoencoder in one seed.

    Args:
        arm: name; `START` for the common start.
        seed: None for the start.
        metrics: by name; None where a value is not finite.
        equivariance: errors by space ("latent", "decoded") and probe.
        num_steps, images_seen, seconds, device_seconds: what its fine-tuning took; None for a ready one.
    """

    arm: str
    seed: int | None
    metrics: dict[str, float | None]
    equivariance: dict[str, dict[str, float | None]] = field(default_factory=dict)
    num_steps: int = 0
    images_seen: float | None = None
    seconds: float | None = None
    device_seconds: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "metrics", _finite(self.metrics))
        object.__setattr__(self, "equivariance", {space: _finite(each) for space, each in self.equivariance.items()})

    def mean_error(self, space: str, probes: list[str]) -> float | None:
        """Mean equivariance error of some probes; None where one is missing, or there is none."""
        errors = [self.equivariance.get(space, {}).get(probe) for probe in probes]
        known = [error for error in errors if error is not None]
        return sum(known) / len(known) if known and len(known) == len(errors) else None


@dataclass(frozen=True)
class Point:
    """A generator after some training.

    Args:
        num_steps, images_seen, seconds, device_seconds: of its training so far.
        metrics: of its samples; None where a value is not finite.
        resampled: Fréchet distances of resampled samples, where there is one seed.
    """

    num_steps: int
    metrics: dict[str, float | None]
    images_seen: float | None = None
    seconds: float | None = None
    device_seconds: float | None = None
    resampled: list[float] = field(default_factory=list)

    def __post_init__(self):
        object.__setattr__(self, "metrics", _finite(self.metrics))


def _finite(metrics: dict[str, float | None]) -> dict[str, float | None]:
    """None for values that are no numbers: a diverged run's, which JSON cannot hold either."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()}


@dataclass(frozen=True)
class Curve:
    """A training of a generator on an arm's latents, measured along the way."""

    arm: str
    generator: str
    seed: int
    points: list[Point]


@dataclass(frozen=True)
class SampleGrid:
    """A grid of samples: a PNG in the report's folder."""

    arm: str
    generator: str
    seed: int
    num_steps: int
    file: str


@dataclass(frozen=True)
class Panel:
    """Latents of an autoencoder as colours: a PNG in the report's folder."""

    label: str
    file: str


@dataclass(frozen=True)
class Difference:
    """A key in which the arms' configurations differ, with its value in each arm."""

    key: str
    values: dict[str, Any]


@dataclass(frozen=True)
class StageCost:
    """What a part of the sweep took."""

    stage: str
    seconds: float
    arm: str | None = None
    seed: int | None = None
    num_steps: int | None = None
    images_seen: float | None = None


@dataclass(frozen=True)
class Defeat:
    """Why an arm was stopped, with one generator.

    Args:
        generator: which.
        rival: the arm that is faster; the control where the arm is not fast enough.
        smallest_speed_up: over the control that the arm does not reach; None where the rival is faster.
        ratio, low, high: the arm's speed-up over the rival, and its interval; None where seeds have only bounds.
        level: two-sided error rate of the interval.
        p: larger p-value of the two intervals (speed-up, change after equal steps); None where there is none.
    """

    generator: str
    rival: str
    smallest_speed_up: float | None
    ratio: float | None
    low: float | None
    high: float | None
    level: float
    p: float | None


@dataclass(frozen=True)
class StoppedArm:
    """An arm that was hopeless at a look, and was not trained with further seeds.

    Args:
        arm: name.
        seeds: that it was trained with, in order; all that is said of the arm rests on them.
        defeats: one for each generator.
    """

    arm: str
    seeds: list[int]
    defeats: list[Defeat]


@dataclass(frozen=True)
class Published:
    """An earlier study of the same sweep, whose claim the seeds of this one check.

    Args:
        name: as it was asked for.
        created, versions, hardware: of that study.
        seeds, curves: what it measured.
        max_seeds, stopped: as of `SweepResults`.
    """

    name: str
    created: str
    versions: dict[str, str]
    hardware: str
    seeds: list[int]
    curves: list[Curve]
    max_seeds: int | None = None
    stopped: list[StoppedArm] = field(default_factory=list)


@dataclass(frozen=True)
class SweepResults:
    """Everything a sweep measured.

    Args:
        name, title, question: of the sweep file.
        commands: how it is run again.
        created: date and time, ISO 8601.
        versions: of Python and the libraries.
        hardware: in words.
        seconds: all parts added up.
        control: name of the arm that the others are compared with.
        arms, generators, seeds: of the sweep.
        metric, metric_label: that speed-ups are computed on, lower is better.
        max_seeds: where seeds were added one by one until the verdict stood, how many there could have been.
        autoencoders, curves: measurements.
        panels, samples, reference_grid: images in the report's folder.
        differences, cost, notes: for readers.
        sweep: the sweep file as it was read, but for where it ran; empty in reports of earlier versions.
        published: where fresh seeds check the claim of an earlier study.
        stopped: arms that a race took out, in that order; all others have all seeds.
        recipes: a hash of each recipe as it was run, by its key in the sweep file: "start", "autoencoders.NAME" and
            "generators.NAME"; empty in reports of earlier versions.
    """

    name: str
    title: str
    question: str
    commands: list[str]
    created: str
    versions: dict[str, str]
    hardware: str
    seconds: float
    control: str
    arms: list[Arm]
    generators: list[GeneratorEntry]
    seeds: list[int]
    metric: str
    metric_label: str
    autoencoders: list[AutoencoderMeasurement]
    curves: list[Curve]
    max_seeds: int | None = None
    panels: list[Panel] = field(default_factory=list)
    samples: list[SampleGrid] = field(default_factory=list)
    reference_grid: str | None = None
    differences: list[Difference] = field(default_factory=list)
    cost: list[StageCost] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sweep: dict[str, Any] = field(default_factory=dict)
    published: Published | None = None
    stopped: list[StoppedArm] = field(default_factory=list)
    recipes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.control not in {arm.name for arm in self.arms}:
            raise ValueError(f"results: the control {self.control!r} is not among the arms; name one in 'control'")

    @property
    def treated_arms(self) -> list[Arm]:
        """All arms but the control."""
        return [arm for arm in self.arms if arm.name != self.control]

    @property
    def racing_arms(self) -> list[Arm]:
        """All arms that were not stopped."""
        stopped = {each.arm for each in self.stopped}
        return [arm for arm in self.arms if arm.name not in stopped]

    def seeds_of(self, arm: str) -> list[int]:
        """The seeds that an arm should have: all of the sweep, or those it had when it was stopped."""
        return next((each.seeds for each in self.stopped if each.arm == arm), self.seeds)

    @property
    def measured_arms(self) -> list[Arm]:
        """Arms that have a measured autoencoder, the common start first."""
        present = {each.arm for each in self.autoencoders}
        return [arm for arm in (Arm(START, "Common start"), *self.arms) if arm.name in present]

    def shared_probes(self, space: str) -> list[str]:
        """Equivariance probes that all measured autoencoders have: latents of other sizes take other scales."""
        measured = [each.equivariance[space] for each in self.autoencoders if each.equivariance.get(space)]
        return [probe for probe in measured[0] if all(probe in errors for errors in measured)] if measured else []

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From the values of a report.json.

        Raises:
            ValueError: naming a key that is missing or unknown, or of another type.
        """
        return build_record(cls, values, "results")

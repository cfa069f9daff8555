"""How much sooner one learning curve reaches a level than another, and how sure the seeds make us of it.

A curve is known at its evaluation points only, so "the step at which a level is reached" is in general an interval:
exact (by interpolation) between two points, "at most the first step" when the first point is already there, "more
than the last step" when no point is. `Reach` is that interval, and `Speedup` is the quotient of two of them, so a
bound stays a bound to the end of the arithmetic. Nothing is extrapolated. Lower values are better throughout.
"""

# ruff: noqa: RUF001 (readers are shown the true signs: ×, −, ’)

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Curve = tuple[Sequence[float], Sequence[float]]
"""Training steps (positive, increasing) and the metric's value at each of them (lower is better)."""

CONFIDENCE = 0.95
MINIMUM_SEEDS = 3
NUM_RESAMPLES = 10_000
SAMPLES = "interval over samples"


@dataclass(frozen=True)
class Reach:
    """The training steps after which a curve is at a level: low <= steps <= high.

    Exact: low == high. At the level from the first evaluated point on: low == 0. Never at the level: high is infinite.
    """

    low: float
    high: float

    @property
    def steps(self) -> float | None:
        """Steps to the level (an upper bound if `at_first_point`), or None: not reached."""
        return self.high if math.isfinite(self.high) else None

    @property
    def at_first_point(self) -> bool:
        return self.low == 0

    def plus(self, cost: float) -> "Reach":
        """The same after something else was paid for, in the same unit; "at most" stays "at most"."""
        return Reach(self.low + cost if self.low else 0.0, self.high + cost)


@dataclass(frozen=True)
class Speedup:
    """Steps of the control over steps of the treated arm to one level: above 1, the treated arm is faster."""

    level: float
    control: Reach
    treated: Reach

    @property
    def low(self) -> float:
        """What the ratio is at least."""
        return self.control.low / self.treated.high

    @property
    def high(self) -> float:
        """What the ratio is at most."""
        return self.control.high / self.treated.low if self.treated.low else math.inf

    @property
    def kind(self) -> str:
        """value | at least | at most | not reached (by the treated arm) | unresolved (nothing is known)."""
        if self.low == 0 and self.high == math.inf:
            return "unresolved"
        if self.treated.steps is None:
            return "not reached"
        if self.low == self.high:
            return "value"
        return "at least" if self.high == math.inf else "at most"

    @property
    def ratio(self) -> float | None:
        """The number that `kind` qualifies: for "not reached" and "at most" what the ratio is at most; or None."""
        if self.kind == "unresolved":
            return None
        return self.low if self.kind in ("value", "at least") else self.high

    @property
    def is_faster(self) -> bool:
        return self.low > 1

    @property
    def is_slower(self) -> bool:
        return self.high < 1 or (self.kind == "not reached" and self.high <= 1)


def running_minimum(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A checked curve as float64 arrays: the steps, and the best value seen up to each of them.

    Raises:
        ValueError: no point, lengths that differ, steps that are not positive and increasing, values not finite.
    """
    steps, values = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if steps.ndim != 1 or steps.shape != values.shape or not len(steps):
        raise ValueError(f"a learning curve needs one value per step, got {len(steps)} steps, {len(values)} values")
    if steps[0] <= 0 or np.any(np.diff(steps) <= 0):
        raise ValueError(f"the steps of a learning curve must be positive and increasing, got {steps.tolist()}")
    if not (np.isfinite(steps).all() and np.isfinite(values).all()):
        raise ValueError("a learning curve has values that are not finite; leave those points out")
    return steps, np.minimum.accumulate(values)


def steps_to_reach(steps: Sequence[float], values: Sequence[float], level: float) -> Reach:
    """When the running minimum of a curve is at `level` or below, linear in value over the logarithm of steps.

    Raises:
        ValueError: the curve is not usable (see `running_minimum`).
    """
    steps, best = running_minimum(steps, values)
    if best[-1] > level:
        return Reach(float(steps[-1]), math.inf)
    after = int(np.argmax(best <= level))
    if after == 0:
        return Reach(0.0, float(steps[0]))
    if best[after] == level:
        return Reach(float(steps[after]), float(steps[after]))
    fraction = (best[after - 1] - level) / (best[after - 1] - best[after])
    reached = float(steps[after - 1] * (steps[after] / steps[after - 1]) ** fraction)
    return Reach(reached, reached)


def speedup(control_curve: Curve, treated_curve: Curve, level: float | None = None) -> Speedup:
    """Steps of the control over steps of the treated arm to `level`; by default the best value of the control."""
    if level is None:
        level = float(running_minimum(*control_curve)[1][-1])
    return Speedup(level, steps_to_reach(*control_curve, level), steps_to_reach(*treated_curve, level))


def speedup_including(control_curve: Curve, treated_curve: Curve, cost: float) -> Speedup:
    """As `speedup` to the control's best value, `cost` being paid for the treated arm before its first step.

    Both curves and the cost must be in one unit, such as seconds.
    """
    plain = speedup(control_curve, treated_curve)
    return Speedup(plain.level, plain.control, plain.treated.plus(cost))


def speedups_along(control_curve: Curve, treated_curve: Curve) -> list[tuple[int, Speedup]]:
    """(step, speed-up to what the control had reached by that step) for each evaluated point but the first.

    The first point is left out: when the control reached that level is not known.
    """
    steps, best = running_minimum(*control_curve)
    return [
        (int(step), speedup(control_curve, treated_curve, float(level)))
        for step, level in zip(steps[1:], best[1:], strict=True)
    ]


def equal_step_change(control_curve: Curve, treated_curve: Curve) -> dict[int, float]:
    """Relative change treated / control - 1 of the values themselves at each step both were evaluated at."""
    control, treated = (dict(zip(*curve, strict=True)) for curve in (control_curve, treated_curve))
    return {int(step): treated[step] / control[step] - 1 for step in sorted(control.keys() & treated.keys())}


@dataclass(frozen=True)
class Spread:
    """Mean over seeds with what so many seeds can say of it.

    `kind` is "single seed" or "range" (lowest and highest value) below `MINIMUM_SEEDS`, else "confidence interval".
    """

    mean: float
    low: float
    high: float
    num_seeds: int
    kind: str


def spread_over_seeds(values: Sequence[float], *, seed: int = 0) -> Spread:
    """Mean and percentile bootstrap interval of one paired quantity per seed (a difference, a log ratio, ...).

    Resampling pairs is resampling these values, for each of them was computed within its pair.

    Args:
        seed: of the resampling; the same values and seed give the same interval.

    Raises:
        ValueError: there is no value.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise ValueError("a spread over seeds needs at least one value")
    mean, low, high = float(values.mean()), float(values.min()), float(values.max())
    if len(values) < MINIMUM_SEEDS:
        return Spread(mean, low, high, len(values), "single seed" if len(values) == 1 else "range")
    picks = np.random.default_rng(seed).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[picks].mean(axis=1), (tail, 1 - tail))
    return Spread(mean, float(low), float(high), len(values), "confidence interval")


@dataclass(frozen=True)
class SpeedupSpread:
    """Speed-ups of all seeds together.

    `mean` (geometric) and a confidence interval exist only where every seed has a value or a lower bound; otherwise
    `low` and `high` are the ratios of the slowest and the fastest seed that has one. With a lower bound among them
    (`has_lower_bounds`), mean and high are lower bounds too. `verdict` is "faster", "slower" or "open".
    """

    mean: float | None
    low: float | None
    high: float | None
    kind: str
    verdict: str
    has_lower_bounds: bool
    text: str


def speedup_over_seeds(speedups: Sequence[Speedup], *, seed: int = 0) -> SpeedupSpread:
    """Range or interval of the speed-ups of several seeds, and the strongest word it allows.

    "faster" and "slower" need every seed to agree (below `MINIMUM_SEEDS`, or where some seed has no ratio), or the
    whole confidence interval on that side of 1.

    Raises:
        ValueError: there is no seed.
    """
    if not speedups:
        raise ValueError("a spread over seeds needs at least one speed-up")
    spread = None
    if all(s.kind in ("value", "at least") for s in speedups):
        spread = spread_over_seeds(np.log([s.ratio for s in speedups]), seed=seed)
    mean = math.exp(spread.mean) if spread else None
    if spread and spread.kind == "confidence interval":
        return _interval(speedups, mean, math.exp(spread.low), math.exp(spread.high))
    return _range(speedups, mean)


def _interval(speedups: Sequence[Speedup], mean: float, low: float, high: float) -> SpeedupSpread:
    has_lower_bounds = any(s.kind == "at least" for s in speedups)
    verdict = "faster" if low > 1 else "slower" if high < 1 and not has_lower_bounds else "open"
    text = f"{format_ratio(low, 'value')} to {format_ratio(high, 'at least' if has_lower_bounds else 'value')}"
    return SpeedupSpread(mean, low, high, "confidence interval", verdict, has_lower_bounds, text)


def _range(speedups: Sequence[Speedup], mean: float | None) -> SpeedupSpread:
    kind = "single seed" if len(speedups) == 1 else "range"
    resolved = sorted((s for s in speedups if s.ratio is not None), key=lambda s: (s.kind != "not reached", s.ratio))
    if not resolved:
        return SpeedupSpread(None, None, None, kind, "open", False, format_ratio(None, "unresolved"))
    all_faster, all_slower = all(s.is_faster for s in speedups), all(s.is_slower for s in speedups)
    verdict = "faster" if all_faster else "slower" if all_slower else "open"
    slowest, fastest = resolved[0], resolved[-1]
    low_text, high_text = format_ratio(slowest.ratio, slowest.kind), format_ratio(fastest.ratio, fastest.kind)
    text = low_text if low_text == high_text else f"{low_text} to {high_text}"
    has_lower_bounds = any(s.kind == "at least" for s in speedups)
    return SpeedupSpread(mean, slowest.ratio, fastest.ratio, kind, verdict, has_lower_bounds, text)


def speedup_over_samples(speedups: Sequence[Speedup]) -> SpeedupSpread:
    """Percentile interval over speed-ups of resampled pictures, of one seed: it knows nothing of another training.

    Bounds stay bounds: an end of the interval that is one says so. The mean is left out, resampled distances being
    biased.

    Raises:
        ValueError: there is none.
    """
    if not speedups:
        raise ValueError("an interval over samples needs at least one speed-up")
    resolved = [s for s in speedups if s.ratio is not None]
    if len(resolved) < len(speedups):
        return SpeedupSpread(None, None, None, SAMPLES, "open", False, format_ratio(None, "unresolved"))
    ordered = sorted(resolved, key=lambda s: (s.ratio, s.kind != "not reached"))
    tail = (1 - CONFIDENCE) / 2 * (len(ordered) - 1)
    low, high = ordered[math.floor(tail)], ordered[math.ceil(len(ordered) - 1 - tail)]
    verdict = "faster" if low.is_faster else "slower" if high.is_slower else "open"
    text = f"{format_ratio(low.ratio, low.kind)} to {format_ratio(high.ratio, high.kind)}"
    bounds = any(s.kind == "at least" for s in ordered)
    return SpeedupSpread(None, low.ratio, high.ratio, SAMPLES, verdict, bounds, text)


def format_ratio(ratio: float | None, kind: str) -> str:
    """A speed-up as people write it: 1.25×, ≥ 2.00×, ≤ 0.80×, < 0.83× (not reached), not resolved."""
    if ratio is None:
        return "not resolved"
    prefix = {"at least": "≥ ", "at most": "≤ ", "not reached": "< "}.get(kind, "")
    return f"{prefix}{ratio:.2f}×"

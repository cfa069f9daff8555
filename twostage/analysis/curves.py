"""When a learning curve reaches a level: monotone cubic interpolation of the log value over the log of the steps."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

EXACT = 1e-15  # of the root, in units of the log of the steps
COARSE_RATIO = 1.5  # points further apart than this factor around a crossing are coarse


@dataclass(frozen=True)
class LearningCurve:
    """A metric of a generator along its training; lower is better.

    Args:
        steps: positive and increasing: training steps, images or seconds.
        values: of the metric at each of them, finite.

    Raises:
        ValueError: for no point, lengths that differ, steps or values that are none.
    """

    steps: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "steps", tuple(map(float, self.steps)))
        object.__setattr__(self, "values", tuple(map(float, self.values)))
        if not self.steps or len(self.steps) != len(self.values):
            raise ValueError(
                f"a learning curve needs one value per step, got {len(self.steps)} steps, {len(self.values)} values"
            )
        if self.steps[0] <= 0 or np.any(np.diff(self.steps) <= 0):
            raise ValueError(f"the steps of a learning curve must be positive and increasing, got {list(self.steps)}")
        if not (np.isfinite(self.steps).all() and np.isfinite(self.values).all()):
            raise ValueError("a learning curve has values that are not finite: leave those points out")

    @property
    def best(self) -> np.ndarray:
        """Running minimum of the values: the best seen up to each point."""
        return np.minimum.accumulate(self.values)


@dataclass(frozen=True)
class Crossing:
    """Where a curve reaches a level.

    Args:
        steps: until then; of a curve that is there at its first point, that point.
        at_first_point: the level may have been reached earlier.
        coarse: the two points around it are further apart than a factor of `COARSE_RATIO`.
    """

    steps: float
    at_first_point: bool = False
    coarse: bool = False


def crossing(curve: LearningCurve, level: float, in_logs: bool = True) -> Crossing:
    """When the running minimum of a curve is at `level`, which its last point must be.

    Between points log value is a monotone cubic of log steps (PCHIP; Fritsch and Butland, 1984), so that a convex curve
    is not cut off by a straight line.

    Args:
        in_logs: false takes a straight line in the value itself over log steps, for values that may be negative.
    """
    best = curve.best
    assert best[-1] <= level, f"the level {level} is not reached: {best[-1]}"
    after = int(np.argmax(best <= level))
    if after == 0:
        return Crossing(curve.steps[0], at_first_point=True)
    coarse = curve.steps[after] / curve.steps[after - 1] > COARSE_RATIO
    if best[after] == level:
        return Crossing(curve.steps[after], coarse=coarse)
    x, ends = np.log(curve.steps), slice(after - 1, after + 1)
    if in_logs:
        spline = PchipInterpolator(x, np.log(best) - np.log(level))
        if spline(x[after]) >= 0:  # below the level by rounding alone
            return Crossing(curve.steps[after], coarse=coarse)
        reached = brentq(lambda place: float(spline(place)), *x[ends], xtol=EXACT)
        assert isinstance(reached, float)  # a pair only where more is asked for
    else:
        reached = np.interp(-level, -best[ends], x[ends])
    return Crossing(float(np.exp(reached)), coarse=coarse)


def end_slope(curve: LearningCurve) -> float | None:
    """-d log value / d log steps between the last two points: how fast the curve still falls.

    None of a single point, or where a value is zero or negative.
    """
    if len(curve.steps) < 2 or min(curve.values[-2:]) <= 0:
        return None
    (before, after), (first, last) = curve.values[-2:], curve.steps[-2:]
    return float(np.log(before / after) / np.log(last / first))

"""Two arms in one seed: the log speed-up at the last level that both reached, and the change after equal steps."""

import math
from dataclasses import dataclass
from typing import Literal

from twostage.analysis.curves import Crossing, LearningCurve, crossing

Kind = Literal["value", "at least", "at most", "unresolved"]


@dataclass(frozen=True)
class SpeedUp:
    """How many times fewer steps the treated arm needs to a level.

    Args:
        level: value of the metric.
        control_steps, treated_steps: to the level, whatever the treated arm was charged beforehand included.
        control_at_first_point, treated_at_first_point: the arm may have been there earlier.
        kind: what the ratio is: a "value", or "at least" or "at most" it; "unresolved" where both arms were at the
            level at their first points.
        log_ratio: log of control steps over treated steps; above 0 the treated arm is faster. None if unresolved.
        ratio: its exponential.
        coarse: the points around a crossing are far apart.
    """

    level: float
    control_steps: float
    treated_steps: float
    control_at_first_point: bool
    treated_at_first_point: bool
    kind: Kind
    log_ratio: float | None
    ratio: float | None
    coarse: bool


def last_common_level(control: LearningCurve, treated: LearningCurve) -> float:
    """The worse of the two best values: the last level that both arms reached."""
    return float(max(control.best[-1], treated.best[-1]))


def speed_up(
    control: LearningCurve,
    treated: LearningCurve,
    level: float | None = None,
    cost: float = 0.0,
    in_logs: bool = True,
) -> SpeedUp:
    """Speed-up of one seed.

    Args:
        control, treated: curves over the same unit.
        level: that both must have reached; None takes the last common one.
        cost: what the treated arm paid before its first step, in the same unit.
        in_logs: see `crossing`; false where a value may be zero or negative.
    """
    level = last_common_level(control, treated) if level is None else level
    ours, theirs = crossing(treated, level, in_logs), crossing(control, level, in_logs)
    kind = _kind(theirs, ours)
    known = kind != "unresolved"
    log_ratio = math.log(theirs.steps) - math.log(ours.steps + cost)  # so that swapped arms give exactly its negative
    return SpeedUp(
        level=level,
        control_steps=theirs.steps,
        treated_steps=ours.steps + cost,
        control_at_first_point=theirs.at_first_point,
        treated_at_first_point=ours.at_first_point,
        kind=kind,
        log_ratio=log_ratio if known else None,
        ratio=math.exp(log_ratio) if known else None,
        coarse=ours.coarse or theirs.coarse,
    )


def _kind(control: Crossing, treated: Crossing) -> Kind:
    if control.at_first_point and treated.at_first_point:
        return "unresolved"
    if treated.at_first_point:
        return "at least"
    return "at most" if control.at_first_point else "value"


def changes_at_equal_steps(control: LearningCurve, treated: LearningCurve, in_logs: bool = True) -> dict[float, float]:
    """log(treated / control) of the values themselves at each step that both curves have; below 0 treated is better.

    Args:
        in_logs: false gives differences, treated - control, of values that may be zero or negative.
    """
    theirs, ours = (dict(zip(curve.steps, curve.values, strict=True)) for curve in (control, treated))
    shared = sorted(theirs.keys() & ours.keys())
    return {step: math.log(ours[step] / theirs[step]) if in_logs else ours[step] - theirs[step] for step in shared}

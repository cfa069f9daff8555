"""Learning curves: the metric against steps, images and time, a thin line for each seed and the mean of all."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twostage.analysis.comparison import AXES, INCLUDING, curves_by_seed, is_number, last_step_of
from twostage.analysis.curves import LearningCurve
from twostage.analysis.records import GeneratorEntry, SweepResults
from twostage.report.scales import Scale, short_duration, short_number, thinned
from twostage.report.svg import Canvas, Plot, arm_classes, arm_marks
from twostage.report.text import format_duration, format_number

HEIGHT, LEFT, BOTTOM = 340, 62, 46
MOST_BANDS = 3  # more of them on top of each other hide what they show
CHARGED = "charged"
SWITCH = {
    "num_steps": "training steps",
    "images_seen": "images seen",
    "device_seconds": "device time",
    CHARGED: "device time with fine-tuning",
}
"""What the page's switch offers; the label of each row of a comparison is `ROW_LABELS`."""

CAPTIONS = {
    "num_steps": "training steps of the generator",
    "images_seen": "images the generator has seen",
    "device_seconds": "device time of the generator's training",
    CHARGED: "device time, the arms' fine-tuning included",
}
ROW_LABELS = {name: AXES[name][0] for name in SWITCH if name in AXES} | {CHARGED: INCLUDING}


@dataclass(frozen=True)
class ArmCurves:
    """An arm's curves on one axis: of each seed, and the mean at the steps that all complete seeds share.

    Args:
        seeds: by seed.
        partial: seeds whose curve ends before the others': in no mean, as they are in no number over seeds.
        steps: of the mean, training steps.
        places: of the mean along the axis.
        mean, low, high: of the metric there.
    """

    seeds: dict[int, LearningCurve]
    partial: list[int]
    steps: list[int]
    places: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def curve_plots(results: SweepResults, generator: GeneratorEntry) -> list[Plot]:
    """One chart for each of `SWITCH` that every arm has."""
    charts = [(axis, _arms_on(results, generator, axis)) for axis in SWITCH]
    return [_plot(results, generator, axis, arms) for axis, arms in charts if arms]


def _arms_on(results: SweepResults, generator: GeneratorEntry, axis: str) -> dict[str, ArmCurves]:
    """By arm; empty where some curve lacks the axis, or no arm was charged for anything."""
    place = "device_seconds" if axis == CHARGED else axis
    found: dict[str, ArmCurves] = {}
    charged = False
    for arm in results.arms:
        in_steps = curves_by_seed(results, arm.name, generator.name)
        on_axis = curves_by_seed(results, arm.name, generator.name, place)
        if set(in_steps) != set(on_axis):
            return {}
        if axis == CHARGED and arm.name != results.control:
            costs = _costs(results, arm.name)
            if not set(on_axis) <= set(costs):
                return {}
            charged = charged or bool(on_axis)
            on_axis = {seed: _later(curve, costs[seed]) for seed, curve in on_axis.items()}
        if on_axis:
            found[arm.name] = _joined(in_steps, on_axis, last_step_of(results, generator.name))
    return {} if axis == CHARGED and not charged else found


def _costs(results: SweepResults, arm: str) -> dict[int | None, float]:
    measured = [each for each in results.autoencoders if each.arm == arm]
    return {each.seed: each.device_seconds for each in measured if is_number(each.device_seconds)}


def _later(curve: LearningCurve, cost: float) -> LearningCurve:
    return LearningCurve(tuple(step + cost for step in curve.steps), curve.values)


def _joined(in_steps: Mapping[int, LearningCurve], on_axis: dict[int, LearningCurve], last_step: int) -> ArmCurves:
    """With the mean of complete seeds at shared steps; of the longest curve alone where seeds share none."""
    seeds = [seed for seed, curve in in_steps.items() if curve.steps[-1] == last_step]
    partial = [seed for seed in in_steps if seed not in seeds]
    seeds = seeds or list(in_steps)
    shared = sorted(set.intersection(*(set(in_steps[seed].steps) for seed in seeds)))
    if not shared:
        seeds = [max(in_steps, key=lambda seed: len(in_steps[seed].steps))]
        shared = list(in_steps[seeds[0]].steps)
    rows = [[in_steps[seed].steps.index(step) for step in shared] for seed in seeds]
    values = np.array([np.array(on_axis[seed].values)[row] for seed, row in zip(seeds, rows, strict=True)])
    places = np.array([np.array(on_axis[seed].steps)[row] for seed, row in zip(seeds, rows, strict=True)])
    return ArmCurves(
        seeds=on_axis,
        partial=partial,
        steps=[int(step) for step in shared],
        places=places.mean(0).tolist(),
        mean=values.mean(0).tolist(),
        low=values.min(0).tolist(),
        high=values.max(0).tolist(),
    )


def _plot(results: SweepResults, generator: GeneratorEntry, axis: str, arms: dict[str, ArmCurves]) -> Plot:
    labels = {arm.name: arm.label for arm in results.arms}
    values = [value for each in arms.values() for curve in each.seeds.values() for value in curve.values]
    down = Scale.around(values, in_logs=min(values) > 0, margin=0.06)
    across = Scale.around((step for each in arms.values() for c in each.seeds.values() for step in c.steps), True)
    last_step = last_step_of(results, generator.name)
    ends = "; ".join(f"{labels[arm]} ends {_end(each, last_step)}" for arm, each in arms.items())
    about = f"{results.metric_label} of {generator.label} against {SWITCH[axis]}, mean of seeds: {ends}."
    canvas = Canvas(HEIGHT, about)
    _draw_axes(canvas, axis, across, down, arms)
    if all(each.steps[-1] == last_step for each in arms.values()):
        _draw_level(canvas, results, down, arms)
    classes, marks = arm_classes(results), arm_marks(results)
    for arm, each in arms.items():
        group = canvas.group(f"arm {classes[arm]}", arm=arm)
        _draw_lines(canvas, group, across, down, each, with_band=len(arms) <= MOST_BANDS)
        for number, step in enumerate(each.steps):
            spread = "" if len(each.seeds) == 1 else f" ({_range(each, number)})"
            told = f"{labels[arm]}: {format_number(each.mean[number])}{spread}"
            counted = "" if axis == "num_steps" else f", {_full(axis, each.places[number])}"
            place = across.place(each.places[number])
            data = {"step": str(step), "place": str(place), "told": f"{told}{counted}"}
            height = HEIGHT * (1 - down.place(each.mean[number]) / 100)
            canvas.mark(group, place, round(height, 1), marks[arm], f"{step:,} steps: {told}{counted}", "point", **data)
    name, title = f"learning-curves-{generator.name}", f"Learning curves of {generator.label}"
    caption = f"{CAPTIONS[axis]} (log scale)"
    return Plot(name, title, about, canvas.markup(), LEFT, BOTTOM, HEIGHT, axis, caption)


def _end(each: ArmCurves, last_step: int) -> str:
    """Where the mean ends, and which seeds are not in it."""
    value, step = format_number(each.mean[-1]), each.steps[-1]
    text = f"at {value}" if step == last_step else f"after {step:,} steps at {value}"
    if not each.partial or len(each.partial) == len(each.seeds):
        return text
    seeds = ", ".join(map(str, each.partial))
    return f"{text} without seed {seeds}, which {'ends' if len(each.partial) == 1 else 'end'} early"


def _range(each: ArmCurves, number: int) -> str:
    return f"{format_number(each.low[number])} to {format_number(each.high[number])}"


def _full(axis: str, value: float) -> str:
    return f"{format_number(round(value))} images" if axis == "images_seen" else format_duration(value)


def _draw_axes(canvas: Canvas, axis: str, across: Scale, down: Scale, arms: dict[str, ArmCurves]) -> None:
    group = canvas.group("axis-lines")
    for tick in down.ticks():
        height = round(HEIGHT * (1 - down.place(tick) / 100), 1)
        canvas.line(group, (0, 100), (height, height), "grid")
        canvas.text(group, 0, height + 4, short_number(tick), "tick end", shift=-8)
    canvas.line(group, (0, 100), (HEIGHT, HEIGHT), "base")
    if axis == "num_steps":
        every = sorted({step for each in arms.values() for step in each.steps})
        ticks = thinned(every, across, 9)
    else:
        ticks = across.ticks(8) if axis == "images_seen" else _times(across)
    wide = set(ticks) - set(thinned(ticks, across, 17))
    for tick in ticks:
        words = short_number(tick) if axis in ("num_steps", "images_seen") else short_duration(tick)
        canvas.line(group, (across.place(tick), across.place(tick)), (HEIGHT, HEIGHT + 5), "base")
        canvas.text(group, across.place(tick), HEIGHT + 20, words, f"tick middle{' wide' if tick in wide else ''}")


ROUND_TIMES = [1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 420, 600, 900, 1200, 1800, 2700, 3600,
               *(3600 * hours for hours in (1.5, 2, 3, 5, 8, 12, 18, 24, 36, 48, 72, 120, 240, 480, 960))]  # fmt: skip
"""In seconds."""


def _times(across: Scale) -> list[float]:
    """Round times in the range, no closer than a label needs; of runs below a second round numbers."""
    inside = [time for time in ROUND_TIMES if across.holds(time)]
    return thinned(inside, across, 11) if len(inside) > 1 else across.ticks()


def _draw_level(canvas: Canvas, results: SweepResults, down: Scale, arms: dict[str, ArmCurves]) -> None:
    """The level the speed-up is read at where there is one treated arm: the gap between the curves along this line."""
    if results.control not in arms or len(arms) != 2:
        return
    level = max(min(each.mean) for each in arms.values())
    height = round(HEIGHT * (1 - down.place(level) / 100), 1)
    group = canvas.group("level")
    canvas.line(group, (0, 100), (height, height), "dashed")
    canvas.text(group, 0, height + 15, "last level both arms reached", "small", shift=4)


def _draw_lines(
    canvas: Canvas, group: ET.Element, across: Scale, down: Scale, each: ArmCurves, with_band: bool
) -> None:
    """The band between the lowest and the highest seed, a thin line per seed, and the mean."""
    space = canvas.lines(group)
    top = [(across.place(x), 100 - down.place(y)) for x, y in zip(each.places, each.high, strict=True)]
    bottom = [(across.place(x), 100 - down.place(y)) for x, y in zip(each.places, each.low, strict=True)]
    if len(each.seeds) > 1:
        if with_band:
            canvas.path(space, top + bottom[::-1], "band", closed=True)
        for curve in each.seeds.values():
            places = [(across.place(x), 100 - down.place(y)) for x, y in zip(curve.steps, curve.values, strict=True)]
            canvas.path(space, places, "seed")
    mean = [(across.place(x), 100 - down.place(y)) for x, y in zip(each.places, each.mean, strict=True)]
    canvas.path(space, mean, "mean")

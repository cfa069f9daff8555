"""What a sweep's raw results say: comparisons of each arm with the control, seed by seed, and one honest sentence.

Everything here is plain data (dictionaries, lists, numbers, text), so that a summary goes into report.json as it is.
"""

# ruff: noqa: RUF001 (readers are shown the true signs: ×, −, ’)

import math
from collections.abc import Iterable
from dataclasses import asdict

from twostage.analysis.speedup import (
    Curve,
    Speedup,
    equal_step_change,
    format_ratio,
    speedup,
    speedup_including,
    speedup_over_samples,
    speedup_over_seeds,
    speedups_along,
    spread_over_seeds,
)

POSITION_KEYS = ("num_steps", "images_seen", "seconds", "device_seconds", "resampled")
"""Keys of a curve's point that are no metric: where it is, and distances of resampled pictures."""

AXES = {
    "num_steps": "training steps",
    "images_seen": "images seen",
    "seconds": "wall time of the generator's training",
    "device_seconds": "device time of the generator's training",
}
"""What a speed-up can be counted in, by the key of a curve's point."""

INCLUDING = "device time, the arm's fine-tuning included"

START = {"name": "start", "label": "Common start"}


def summarize(results: dict) -> dict:
    """Comparisons, means over seeds and the headline of a sweep's results, as plain data for JSON.

    Keys: `headline`, `comparisons` (one per generator and arm that is not the control), `last_step` (generator metrics
    at the last step all curves share), `autoencoders`, `equivariance` (means over seeds), `notes` (points left out).

    Raises:
        ValueError: the control is not among the arms, or no seed has both the control and another arm.
    """
    control = results["control"]
    if control not in {arm["name"] for arm in results["arms"]}:
        raise ValueError(f"results: the control {control!r} is not among the arms; name one of them in 'control'")
    treated_arms = [arm for arm in results["arms"] if arm["name"] != control]
    comparisons = [compare(results, arm, generator) for generator in results["generators"] for arm in treated_arms]
    comparisons = [comparison for comparison in comparisons if comparison["per_seed"]]
    if not comparisons:
        raise ValueError(f"results: no seed has a learning curve of {control!r} and of another arm; nothing to compare")
    return {
        "headline": headline(comparisons, results["metric_label"]),
        "comparisons": comparisons,
        "last_step": [row for generator in results["generators"] for row in _last_step(results, generator)],
        "autoencoders": [_autoencoder_row(results, arm) for arm in measured_arms(results)],
        "equivariance": _equivariance(results),
        "notes": list(_left_out(results)),
    }


def measured_arms(results: dict) -> list[dict]:
    """Arms that have a measured autoencoder, the common start first."""
    present = {autoencoder["arm"] for autoencoder in results["autoencoders"]}
    return [arm for arm in (START, *results["arms"]) if arm["name"] in present]


def curves_by_seed(results: dict, arm: str, generator: str, axis: str = "num_steps") -> dict[int, Curve]:
    """{seed: (steps, values of the sweep's metric)}, without points that have no finite value.

    Args:
        axis: a key of AXES to stand for the steps; curves that lack it are left out.
    """
    curves = {}
    for curve in results["curves"]:
        if (curve["arm"], curve["generator"]) != (arm, generator):
            continue
        points = [point for point in curve["points"] if _is_number(point.get(results["metric"]))]
        if points and all(_is_number(point.get(axis)) for point in points):
            curves[curve["seed"]] = [p[axis] for p in points], [p[results["metric"]] for p in points]
    return dict(sorted(curves.items()))


def compare(results: dict, arm: dict, generator: dict) -> dict:
    """One arm against the control for one generator; pairs share the seed."""
    pairs = _pairs(results, arm["name"], generator["name"], "num_steps")
    comparison = {
        "arm": arm["name"],
        "arm_label": arm["label"],
        "generator": generator["name"],
        "generator_label": generator["label"],
        "per_seed": [{"seed": seed, **_speedup_record(speedup(*pair))} for seed, pair in pairs.items()],
    }
    if not pairs:
        return comparison
    along = {seed: dict(speedups_along(*pair)) for seed, pair in pairs.items()}
    changes = {seed: equal_step_change(*pair) for seed, pair in pairs.items()}
    return comparison | {
        "speedup": asdict(speedup_over_seeds([speedup(*pair) for pair in pairs.values()])),
        "axes": _axes(results, arm["name"], generator["name"]),
        "over_samples": _over_samples(results, arm["name"], generator["name"]) if len(pairs) == 1 else None,
        "levels": [
            {"num_steps": step, "per_seed": [{"seed": s, **_speedup_record(along[s][step])} for s in along]}
            for step in _shared(along.values())
        ],
        "equal_steps": [
            {"num_steps": step} | _spread({seed: change[step] for seed, change in changes.items()})
            for step in _shared(changes.values())
        ],
    }


def _axes(results: dict, arm: str, generator: str) -> list[dict]:
    """The speed-up to the control's final value counted in each unit, the last one with the cost of fine-tuning."""
    rows = []
    for axis, label in AXES.items():
        pairs = _pairs(results, arm, generator, axis)
        if pairs:
            rows.append(_axis_row(label, {seed: speedup(*pair) for seed, pair in pairs.items()}))
    pairs = _pairs(results, arm, generator, "device_seconds")
    costs = {a["seed"]: a.get("device_seconds") for a in results["autoencoders"] if a["arm"] == arm}
    if pairs and all(_is_number(costs.get(seed)) for seed in pairs):
        including = {seed: speedup_including(*pair, costs[seed]) for seed, pair in pairs.items()}
        rows.append(_axis_row(INCLUDING, including))
    return rows


def _axis_row(label: str, speedups: dict[int, Speedup]) -> dict:
    per_seed = [{"seed": seed, **_speedup_record(result)} for seed, result in speedups.items()]
    return {"axis": label, "per_seed": per_seed, "spread": asdict(speedup_over_seeds(list(speedups.values())))}


def _pairs(results: dict, arm: str, generator: str, axis: str) -> dict[int, tuple[Curve, Curve]]:
    control = curves_by_seed(results, results["control"], generator, axis)
    treated = curves_by_seed(results, arm, generator, axis)
    return {seed: (control[seed], treated[seed]) for seed in control if seed in treated}


def _over_samples(results: dict, arm: str, generator: str) -> dict | None:
    """The interval of the speed-up over resampled pictures, where every point of both arms has resampled distances."""
    curves = [
        next((c["points"] for c in results["curves"] if (c["arm"], c["generator"]) == (name, generator)), [])
        for name in (results["control"], arm)
    ]
    counts = {len(point.get("resampled") or ()) for points in curves for point in points}
    if len(counts) != 1 or counts == {0} or results["metric"] == "kid":
        return None
    steps = [[point["num_steps"] for point in points] for points in curves]
    drawn = [list(zip(*(point["resampled"] for point in points), strict=True)) for points in curves]
    pairs = [((steps[0], control), (steps[1], treated)) for control, treated in zip(*drawn, strict=True)]
    return asdict(speedup_over_samples([speedup(*pair) for pair in pairs])) | {"num_resamples": len(pairs)}


def headline(comparisons: list[dict], metric_label: str) -> str:
    """What the comparisons show and no more: one or two sentences per comparison, each with its own uncertainty."""
    return " ".join(_speedup_sentence(c, metric_label) + _change_sentence(c["equal_steps"]) for c in comparisons)


def _speedup_sentence(comparison: dict, metric_label: str) -> str:
    spread, seeds = comparison["speedup"], comparison["per_seed"]
    num_seeds = len(seeds)
    subject = f"{comparison['generator_label']} on the latents of “{comparison['arm_label']}”"
    goal = f"the control’s final {metric_label}"
    extent = _extent(spread, num_seeds, comparison.get("over_samples"))
    if spread["low"] is None:
        return (
            f"{subject} and the control were both at {goal} at their first evaluation, so no speed-up can be computed."
        )
    if spread["verdict"] == "faster":
        return f"In {_count(seeds, 'faster')} {subject} reached {goal} in fewer steps: {extent}."
    if spread["verdict"] == "slower":
        return f"In {_count(seeds, 'slower')} {subject} was slower than the control, or never got, to {goal}: {extent}."
    doubt = "includes 1" if num_seeds > 1 else "decides nothing"
    if any(seed["kind"] == "unresolved" for seed in seeds):
        doubt = "leaves out seeds that were there at their first evaluation"
    return (
        f"{subject} reached {goal} in fewer steps in {_count(seeds, 'faster')}; "
        f"the speed-up, {extent}, {doubt}, so no speed-up is established."
    )


def _count(seeds: list[dict], direction: str) -> str:
    agreeing = sum(seed["direction"] == direction for seed in seeds)
    return f"{agreeing} of {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def _extent(spread: dict, num_seeds: int, over_samples: dict | None) -> str:
    """The speed-up with the name of its uncertainty."""
    if spread["kind"] == "single seed":
        samples = f"; 95% bootstrap interval over its samples: {over_samples['text']}" if over_samples else ""
        return f"{spread['text']} (one seed, which says nothing about the spread over seeds{samples})"
    ends = spread["text"]
    if spread["kind"] == "range":
        return f"{ends} (range over {num_seeds} seeds, not a confidence interval)"
    mean = format_ratio(spread["mean"], "at least" if spread["has_lower_bounds"] else "value")
    return f"{mean} (95% bootstrap interval over {num_seeds} seeds: {ends})"


def _change_sentence(equal_steps: list[dict]) -> str:
    """The change at the last shared step, worse or better."""
    if not equal_steps:
        return ""
    last = equal_steps[-1]
    word = "lower (better)" if last["mean"] < 0 else "higher (worse)"
    sentence = f" At equal steps ({last['num_steps']:,}) the value is {abs(last['mean']):.1%} {word}"
    if last["kind"] == "single seed":
        return f"{sentence}."
    name = "range" if last["kind"] == "range" else "95% interval"
    doubt = ", which includes no change" if last["low"] <= 0 <= last["high"] else ""
    return f"{sentence} on average, {name} {signed_percent(last['low'])} to {signed_percent(last['high'])}{doubt}."


def signed_percent(change: float) -> str:
    """−12.6%, +3.0%, with a true minus sign."""
    return f"{change:+.1%}".replace("-", "−")


def _speedup_record(result: Speedup) -> dict:
    return {
        "level": result.level,
        "control_steps": result.control.steps,
        "control_at_first_point": result.control.at_first_point,
        "treated_steps": result.treated.steps,
        "treated_at_first_point": result.treated.at_first_point,
        "ratio": result.ratio,
        "kind": result.kind,
        "direction": "faster" if result.is_faster else "slower" if result.is_slower else "open",
        "text": format_ratio(result.ratio, result.kind) + " (not reached)" * (result.kind == "not reached"),
    }


def _last_step(results: dict, generator: dict) -> list[dict]:
    """Every metric of each arm at the last step that all curves of a generator share."""
    curves = [curve for curve in results["curves"] if curve["generator"] == generator["name"] and curve["points"]]
    shared = _shared({point["num_steps"] for point in curve["points"]} for curve in curves)
    if not shared:
        return []
    rows = []
    for arm in results["arms"]:
        points = {
            curve["seed"]: point
            for curve in curves
            for point in curve["points"]
            if curve["arm"] == arm["name"] and point["num_steps"] == shared[-1]
        }
        row = {"arm": arm["name"], "generator": generator["name"], "num_steps": shared[-1]}
        rows.append(row | {"metrics": _spread_of_each(points, skip=POSITION_KEYS)})
    return rows


def _autoencoder_row(results: dict, arm: dict) -> dict:
    measured = {a["seed"]: a["metrics"] for a in results["autoencoders"] if a["arm"] == arm["name"]}
    return {"arm": arm["name"], "label": arm["label"], "metrics": _spread_of_each(measured)}


def _equivariance(results: dict) -> dict[str, list[dict]]:
    """{"latent" | "decoded": rows of {"transform", "arms": {arm: spread}}}, the mean over transforms last."""
    tables = {}
    for space in ("latent", "decoded"):
        rows: dict[str, dict[str, dict]] = {}
        for autoencoder in results["autoencoders"]:
            errors = autoencoder["metrics"].get(f"equivariance_{space}", {})
            means = {"mean of transforms": sum(errors.values()) / len(errors)} if errors else {}
            for transform, error in (errors | means).items():
                rows.setdefault(transform, {}).setdefault(autoencoder["arm"], {})[autoencoder["seed"]] = error
        order = sorted(rows, key="mean of transforms".__eq__)
        tables[space] = [{"transform": t, "arms": {arm: _spread(v) for arm, v in rows[t].items()}} for t in order]
    return tables


def _spread_of_each(measured: dict, skip: Iterable[str] = ()) -> dict[str, dict]:
    """{metric: spread over seeds} of {seed: {metric: number}}; metrics that no seed has are absent."""
    names = dict.fromkeys(name for metrics in measured.values() for name in metrics if name not in skip)
    values = {name: {s: m[name] for s, m in measured.items() if _is_number(m.get(name))} for name in names}
    return {name: _spread(by_seed) for name, by_seed in values.items() if by_seed}


def _spread(by_seed: dict) -> dict:
    values = [{"seed": seed, "value": value} for seed, value in by_seed.items()]
    return asdict(spread_over_seeds(list(by_seed.values()))) | {"values": values}


def _shared(collections: Iterable[Iterable]) -> list:
    """Sorted members of every collection."""
    sets = [set(collection) for collection in collections]
    return sorted(set.intersection(*sets)) if sets else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _left_out(results: dict) -> Iterable[str]:
    for curve in results["curves"]:
        missing = [p["num_steps"] for p in curve["points"] if not _is_number(p.get(results["metric"]))]
        if missing:
            steps = ", ".join(f"{step:,}" for step in missing)
            yield (
                f"{curve['arm']}, {curve['generator']}, seed {curve['seed']}: no finite "
                f"{results['metric_label']} at step {steps}; left out of every comparison."
            )

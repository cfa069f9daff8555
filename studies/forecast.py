"""Which numbers of a latent space rank autoencoders as generators do? `python -m studies.forecast [LINES]`.

With `--gauge FILE` it writes what `compare` forecasts with.

The lines are those of `studies.forecast_measures`. Everything is a rank correlation within families (latents of one
shape): between families it would tell the shapes apart, which a comparison of two autoencoders of one shape never asks.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from eqvae.evaluation.predictors import PREDICTORS
from studies.start_search import read_results
from twostage.compare.forecast import Gauge, Record

LINES = Path(__file__).parent / "results/spaces.jsonl"
NUM_DRAWS, LEVEL = 2000, 0.95
COMBINED = (2, 3)  # predictors whose ranks are averaged

Array = NDArray[np.float64]
DIRECTIONS = {
    f"{predictor.name}/{quantity}": direction
    for predictor in PREDICTORS.values()
    for quantity, direction in predictor.quantities.items()
}


@dataclass(frozen=True)
class Spaces:
    """Latent spaces in families.

    Args:
        names: of the spaces [S].
        families: rows of each family, all of one length.
        quality: [S] mean over seeds of the log distance of a generator's samples; lower is better.
        by_seed: [seeds, S] of one seed each.
        predictors: [P, S] means over seeds; lower predicts a lower distance where the direction is published.
        quantities: names of the predictors.
        is_open: [P] whether no direction is published.
    """

    names: list[str]
    families: dict[str, list[int]]
    quality: Array
    by_seed: Array
    predictors: Array
    quantities: list[str]
    is_open: NDArray[np.bool_]


def collect(lines: Sequence[dict]) -> Spaces:
    """Means over seeds, and predictors turned so that lower is said to be better.

    Raises:
        ValueError: naming a space that lacks a seed or a predictor that another one has.
    """
    arms: dict[str, dict[int, dict]] = {}
    for line in lines:
        arms.setdefault(line["arm"], {})[line["seed"]] = line
    seeds = sorted({line["seed"] for line in lines})
    quantities = [name for name in DIRECTIONS if any(name in line["predictors"] for line in lines)]
    for arm, own in arms.items():
        lacking = [f"seed {seed}" for seed in seeds if seed not in own]
        lacking += [name for name in quantities for line in own.values() if name not in line["predictors"]]
        if lacking:
            raise ValueError(f"{arm} lacks {lacking[0]}: every space is compared in every seed and predictor")
    last = str(max(int(step) for line in lines for step in line["fd"]))
    logs = np.log([[own[seed]["fd"][last] for own in arms.values()] for seed in seeds])
    values = [
        [np.mean([own[seed]["predictors"][name] for seed in seeds]) for own in arms.values()] for name in quantities
    ]
    turned = np.array([-1.0 if DIRECTIONS[name] == "higher" else 1.0 for name in quantities])
    families: dict[str, list[int]] = {}
    for row, own in enumerate(arms.values()):
        families.setdefault(own[seeds[0]]["family"], []).append(row)
    return Spaces(
        names=list(arms),
        families=families,
        quality=logs.mean(0),
        by_seed=logs,
        predictors=turned[:, None] * np.array(values),
        quantities=quantities,
        is_open=np.array([DIRECTIONS[name] == "open" for name in quantities]),
    )


def rank_correlation(first: Array, second: Array) -> Array:
    """Spearman's, of rows [..., N]; 0 where one of them is constant."""
    ranks = [rankdata(each, axis=-1) for each in np.broadcast_arrays(first, second)]
    ranks = [each - each.mean(-1, keepdims=True) for each in ranks]
    spread = np.sqrt((ranks[0] ** 2).sum(-1) * (ranks[1] ** 2).sum(-1))
    return np.divide((ranks[0] * ranks[1]).sum(-1), spread, out=np.zeros_like(spread), where=spread > 0)


@dataclass(frozen=True)
class Ranking:
    """What one set of spaces says.

    Args:
        within: [P] mean over families of a predictor's correlation, signs left open taken from the other families.
        chosen: correlation in each family of the predictor that is best in all the others, mean over families.
        combined: likewise of the mean rank of the best few, by how many.
        choices: the predictor chosen for each family, and its sign by the other families.
    """

    within: Array
    chosen: float
    combined: dict[int, float]
    choices: dict[str, tuple[str, float]]


def rank(spaces: Spaces, rows: dict[str, list[int]] | None = None) -> Ranking:
    """How well predictors rank the spaces of each family; `rows` takes some of them, or some twice."""
    rows = spaces.families if rows is None else rows
    correlations = np.stack(
        [rank_correlation(spaces.predictors[:, own], spaces.quality[own]) for own in rows.values()]
    )  # [families, P]
    others = (correlations.sum(0) - correlations) / (len(rows) - 1)
    signs = np.where(spaces.is_open & (others < 0), -1.0, 1.0)
    within = (signs * correlations).mean(0)
    best_first = np.argsort(-signs * others, axis=1, kind="stable")
    chosen, combined, choices = [], {count: [] for count in COMBINED}, {}
    for family, (name, own) in enumerate(rows.items()):
        turned = signs[family][:, None] * spaces.predictors[:, own]
        first = best_first[family, 0]
        choices[name] = spaces.quantities[first], float(signs[family, first])
        chosen.append(signs[family, first] * correlations[family, first])
        for count, found in combined.items():
            mean = rankdata(turned[best_first[family, :count]], axis=1).mean(0)
            found.append(float(rank_correlation(mean, spaces.quality[own])))
    means = {count: float(np.mean(found)) for count, found in combined.items()}
    return Ranking(within, float(np.mean(chosen)), means, choices)


def bootstrap(spaces: Spaces, num_draws: int = NUM_DRAWS, seed: int = 0) -> list[Ranking]:
    """The same of spaces drawn anew, with replacement, in each family."""
    generator = np.random.default_rng(seed)
    return [
        rank(spaces, {name: list(generator.choice(own, len(own))) for name, own in spaces.families.items()})
        for _ in range(num_draws)
    ]


def interval(draws: Sequence[Ranking], value: Callable[[Ranking], float]) -> tuple[float, float]:
    """The middle `LEVEL` of what draws give."""
    low, high = np.percentile([value(draw) for draw in draws], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def ceiling(spaces: Spaces) -> float:
    """What one seed of autoencoder and generator says of another one's ranking, mean over families and pairs."""
    return float(
        np.mean(
            [
                rank_correlation(first[own], second[own])
                for first, second in combinations(spaces.by_seed, 2)
                for own in spaces.families.values()
            ]
        )
    )


def right_orders(spaces: Spaces, choices: dict[str, tuple[str, float]]) -> list[tuple[float, bool]]:
    """Of each pair of a family: how far apart the predictor holds them, and whether their order is the right one.

    Args:
        choices: predictor and sign of each family, chosen without it; distances are in its standard deviations there.
    """
    found = []
    for family, own in spaces.families.items():
        name, sign = choices[family]
        values = sign * spaces.predictors[spaces.quantities.index(name)]
        values = values / values[own].std(ddof=1)
        for first, second in combinations(own, 2):
            apart = values[first] - values[second]
            found.append((abs(apart), bool(apart * (spaces.quality[first] - spaces.quality[second]) > 0)))
    return found


def available_to_compare(spaces: Spaces) -> Spaces:
    """The same with the predictors alone that ask for nothing but an autoencoder and images."""
    kept = [row for row, name in enumerate(spaces.quantities) if _needs(name) <= {"model", "features"}]
    return replace(
        spaces,
        predictors=spaces.predictors[kept],
        quantities=[spaces.quantities[row] for row in kept],
        is_open=spaces.is_open[kept],
    )


def _needs(quantity: str) -> set[str]:
    return set(PREDICTORS[quantity.partition("/")[0]].needs)


def gauge_of(spaces: Spaces) -> Gauge:
    """The best of the predictors that `compare` can ask for, with the record of those so chosen without looking."""
    spaces = available_to_compare(spaces)
    found = rank(spaces)
    best = int(np.argmax(found.within))
    name, own = spaces.quantities[best], spaces.predictors[best]
    correlations = [rank_correlation(own[rows], spaces.quality[rows]) for rows in spaces.families.values()]
    turned = DIRECTIONS[name] == "higher" or (spaces.is_open[best] and np.mean(correlations) < 0)
    records = []
    for part in _thirds(sorted(right_orders(spaces, found.choices))):
        least = float(part[0][0]) if records else 0.0
        records.append(Record(round(least, 4), len(part), sum(right for _, right in part)))
    spread = float(np.mean([own[rows].std(ddof=1) for rows in spaces.families.values()]))
    return Gauge(name, "higher" if turned else "lower", float(f"{spread:.4g}"), tuple(records))


def tables(spaces: Spaces) -> str:
    """What the page shows."""
    found, draws = rank(spaces), bootstrap(spaces)
    everywhere = rank_correlation(spaces.predictors, spaces.quality)
    best = int(np.argmax(found.within))
    lines = ["| predictor | within a family | 95 % | best minus this one, 95 % | across all |", "| --- " * 5 + "|"]
    for place in np.argsort(-found.within, kind="stable"):
        low, high = interval(draws, lambda draw, place=place: draw.within[place])
        apart = interval(draws, lambda draw, place=place: draw.within[best] - draw.within[place])
        name = f"{spaces.quantities[place]}{' (sign open)' if spaces.is_open[place] else ''}"
        rest = "" if place == best else f"{apart[0]:.2f} to {apart[1]:.2f}"
        lines.append(
            f"| {name} | {found.within[place]:.2f} | {low:.2f} to {high:.2f} | {rest} | {everywhere[place]:.2f} |"
        )
    lines += ["", "| chosen without looking | within a family | 95 % |", "| --- | --- | --- |"]
    rows = [("the best one", lambda draw: draw.chosen)]
    rows += [(f"mean rank of the best {count}", lambda draw, count=count: draw.combined[count]) for count in COMBINED]
    for label, value in rows:
        low, high = interval(draws, value)
        lines.append(f"| {label} | {value(found):.2f} | {low:.2f} to {high:.2f} |")
    lines.append(f"| another seed of the generators (ceiling) | {ceiling(spaces):.2f} | |")
    lines += ["", "| pairs, by how far apart | pairs | in the right order |", "| --- | --- | --- |"]
    pairs = sorted(right_orders(spaces, found.choices))
    for label, part in zip(("nearest third", "middle third", "farthest third"), _thirds(pairs), strict=True):
        lines.append(f"| {label} | {len(part)} | {np.mean([right for _, right in part]):.0%} |")
    lines.append(f"| all | {len(pairs)} | {np.mean([right for _, right in pairs]):.0%} |")
    return "\n".join(lines)


def _thirds(pairs: list) -> list[list]:
    return [pairs[len(pairs) * part // 3 : len(pairs) * (part + 1) // 3] for part in range(3)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="?", type=Path, default=LINES)
    parser.add_argument("--gauge", type=Path, metavar="FILE", help="write what `compare` forecasts with, and stop")
    arguments = parser.parse_args()
    read = collect(read_results(arguments.lines))
    if arguments.gauge:
        arguments.gauge.write_text(json.dumps(asdict(gauge_of(read)), indent=1) + "\n")
    else:
        print(tables(read))

"""How well predictors rank arms of one start: `python -m studies.arms_forecast studies/results/regularizers.jsonl`.

The lines are those of `studies.forecast_measures`. One family says nothing of which predictor to choose: the signs of
those without a published direction, and the choice, are those of the study of 50 latent spaces.
"""

import argparse
from pathlib import Path

import numpy as np

from studies.forecast import LEVEL, NUM_DRAWS, Array, Spaces, ceiling, collect, rank_correlation
from studies.start_search import read_results
from studies.sweep_table import table


def correlations(spaces: Spaces, num_draws: int = NUM_DRAWS) -> dict[str, tuple[float, float, float]]:
    """{predictor: (Spearman's correlation with the quality, ends of its bootstrap interval over arms)}."""
    return {
        name: correlation(values, spaces.quality, num_draws)
        for name, values in zip(spaces.quantities, spaces.predictors, strict=True)
    }


def correlation(first: Array, second: Array, num_draws: int = NUM_DRAWS, seed: int = 0) -> tuple[float, float, float]:
    """Spearman's of two rows [S], and the ends of its bootstrap interval over columns."""
    rows = np.random.default_rng(seed).integers(0, len(second), (num_draws, len(second)))
    draws = rank_correlation(first[rows], second[rows])
    low, high = np.percentile(draws, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(rank_correlation(first, second)), float(low), float(high)


def tables(spaces: Spaces) -> str:
    """The best first; a number whose direction is not published is given with the sign that it has, not turned."""
    open_ = dict(zip(spaces.quantities, spaces.is_open, strict=True))
    ordered = sorted(correlations(spaces).items(), key=lambda entry: -entry[1][0])
    rows = [
        [f"{name}{' (sign open)' if open_[name] else ''}", f"{found:.2f}", f"{low:.2f} to {high:.2f}"]
        for name, (found, low, high) in ordered
    ]
    rows.append(["another seed of the generators (ceiling)", f"{ceiling(spaces):.2f}", ""])
    return table([f"predictor, over {len(spaces.names)} arms", "Spearman", "95 %"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", type=Path)
    print(tables(collect(read_results(parser.parse_args().lines))))

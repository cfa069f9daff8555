"""How well predictors rank arms of one start: `python -m studies.arms_forecast studies/results/regularizers.jsonl`.

The lines are those of `studies.forecast_measures`. One family says nothing of which predictor to choose: the signs of
those without a published direction, and the choice, are those of the study of 50 latent spaces.
"""

import argparse
from pathlib import Path

import numpy as np

from studies.forecast import LEVEL, NUM_DRAWS, Spaces, ceiling, collect, rank_correlation
from studies.start_search import read_results
from studies.sweep_table import table


def correlations(spaces: Spaces, num_draws: int = NUM_DRAWS, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """{predictor: (Spearman's correlation with the quality, ends of its bootstrap interval over arms)}."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(spaces.names), (num_draws, len(spaces.names)))
    found = rank_correlation(spaces.predictors, spaces.quality)
    draws = rank_correlation(spaces.predictors[:, rows], spaces.quality[rows])  # [predictors, draws]
    low, high = np.percentile(draws, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=1)
    return {name: (float(found[i]), float(low[i]), float(high[i])) for i, name in enumerate(spaces.quantities)}


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

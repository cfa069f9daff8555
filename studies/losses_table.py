"""What each loss did in the five shapes of the 50 latent spaces: `python -m studies.losses_table`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from studies.forecast import LINES, Spaces, collect
from studies.start_search import read_results
from studies.sweep_table import table
from twostage.analysis.intervals import interval_over_seeds
from twostage.analysis.words import signed_percent

PLAIN = "plain"
ERRORS = ("rotation", "scale")


def log_changes(spaces: Spaces, loss: str) -> list[float]:
    """Of the distance against the ordinary loss, in each shape."""
    rows = [{name.partition("-")[2]: row for name, row in _named(spaces, own)} for own in spaces.families.values()]
    return [float(spaces.quality[each[loss]] - spaces.quality[each[PLAIN]]) for each in rows]


def _named(spaces: Spaces, rows: Sequence[int]) -> list[tuple[str, int]]:
    return [(spaces.names[row], row) for row in rows]


def tables(lines: Sequence[dict]) -> str:
    """Best first: change of the distance, mean over shapes with Student's t over them, and the latents' own numbers."""
    spaces = collect(lines)
    losses = list(dict.fromkeys(name.partition("-")[2] for name in spaces.names))
    changes = {loss: log_changes(spaces, loss) for loss in losses}
    header = ["loss", "FD against plain, 95 %", "better in", "rotation error", "scale error", "PSNR (dB)"]
    rows = []
    for loss in sorted(losses, key=lambda loss: np.mean(changes[loss])):
        own = [line for line in lines if line["arm"].partition("-")[2] == loss]
        rotation, scale = (np.mean([line["predictors"][f"equivariance/{kind}"] for line in own]) for kind in ERRORS)
        psnr = np.mean([line["autoencoder"]["psnr"] for line in own])
        rows.append([loss, *_change(changes[loss], loss), f"{rotation:.2f}", f"{scale:.2f}", f"{psnr:.1f}"])
    return table(header, rows)


def _change(changes: list[float], loss: str) -> list[str]:
    if loss == PLAIN:
        return ["", ""]
    over = interval_over_seeds(changes)
    ends = f"{signed_percent(over.low)} to {signed_percent(over.high)}"
    return [f"{signed_percent(over.mean)} ({ends})", f"{sum(change < 0 for change in changes)} of {len(changes)}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", nargs="?", type=Path, default=LINES)
    print(tables(read_results(parser.parse_args().lines)))

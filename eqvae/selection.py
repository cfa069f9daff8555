"""Which samples are read where not all of them are: one rule for the whole house, named in every result.

Files are often sorted by class, so the first of them tell nothing of the rest. A data set is cut into as many even
stretches as samples are wanted, and one sample is taken of each, at a place that a fixed seed draws. Without the draw,
classes that alternate (as those of procedural shapes do) could meet the stride and give one class alone.
"""

import torch
from torch import Tensor

from eqvae.randomness import keyed_uniform


def evenly_spaced(count: int | None, total: int) -> Tensor:
    """Ascending ids [min(count, total)] of `count` of `total` samples; None, or as many as there are, gives all.

    Raises:
        ValueError: for a negative count.
    """
    if count is not None and count < 0:
        raise ValueError(f"{count} of {total} samples: the number of samples cannot be negative")
    count = total if count is None else min(count, total)
    edges = torch.arange(count + 1) * total // max(count, 1)
    places = keyed_uniform(torch.arange(count), seed=0, stream="evenly spaced").double()
    return edges[:-1] + (places * edges.diff()).long()


def describe_selection(count: int | None, total: int) -> str:
    """What a result says of its samples: "2000 of 50000, evenly spaced", or "all 500"."""
    return f"all {total}" if count is None or count >= total else f"{count} of {total}, evenly spaced"

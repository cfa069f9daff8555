"""Which samples lie in the k-nearest-neighbour balls of others: screened in float32, decided in float64.

Products in float32 cost half of those in float64, and with a bound on their rounding they decide nearly every pair.
What they leave open is decided by sums of squared differences in float64, which are the same in both directions and 0
for equal samples: ties and duplicates are told as such.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from eqvae.precision import encoding

BLOCK = 2**23  # pairs whose distances are held at a time, 32 MB in float32
DIFFERENCES = 2**17  # of coordinates that are held at a time, 1 MB in float64, which stays in a core's cache
RESERVE = 3  # candidates for a k-th neighbour beyond k
ROUNDINGS = 16  # of a squared distance beside those of its scalar product, generously


def samples_in_balls(samples: Tensor, centres: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Who lies in whose ball, which reaches to the k-th nearest neighbour in its own set; computed where both lie.

    Args:
        samples, centres: [N, D] and [M, D], finite, N, M > k.

    Returns:
        Whether each sample lies in a ball around a centre [N], and each centre in one around a sample [M].
    """
    with torch.inference_mode(), encoding("float32", samples.device):
        radii = squared_radii(samples, k), squared_radii(centres, k)
        (first, second), scale, error = _scaled((samples, centres), torch.float32)
        reach, reach_of_centres = ((each / scale**2).float() for each in radii)
        outside = [torch.full((2, len(each)), torch.inf, device=samples.device) for each in (samples, centres)]
        signs = torch.tensor([[1.0], [-1.0]], device=samples.device)  # the bound from above, the one from below
        norms, norms_of_centres = ((1 + error * signs) * each.norms for each in (first, second))
        for rows in _blocks(torch.arange(len(samples), device=samples.device), second):
            products = _products(first, second, rows)
            for bound in range(2):
                to_centres = (products + (norms_of_centres[bound] - reach_of_centres)).amin(1) + norms[bound, rows]
                outside[0][bound, rows] = to_centres
                to_samples = (products + (norms[bound] - reach)[rows, None]).amin(0) + norms_of_centres[bound]
                outside[1][bound] = torch.minimum(outside[1][bound], to_samples)
        return (
            _decided(outside[0], first, second, reach_of_centres, radii[1], error),
            _decided(outside[1], second, first, reach, radii[0], error),
        )


def squared_radii(samples: Tensor, k: int) -> Tensor:
    """Squared distance of each sample [N, D] to its k-th nearest neighbour in the set, [N] float64."""
    radii = torch.empty(len(samples), dtype=torch.float64, device=samples.device)
    left = torch.arange(len(samples), device=samples.device)
    few = min(k + 1 + RESERVE, len(samples))
    # In float64 what float32 cannot tell apart, tight clusters; what that cannot either, by all differences.
    for dtype, count in ((torch.float32, few), (torch.float64, few), (torch.float64, len(samples))):
        (side,), scale, error = _scaled((samples,), dtype)
        still_left = [left[:0]]
        for rows, bounds, nearest in _nearest(side, left, count, error):
            distances = _squared_distances(samples, rows.repeat_interleave(count), samples, nearest.flatten())
            radii[rows] = distances.view_as(nearest).kthvalue(k + 1).values
            reached = radii[rows] <= bounds[:, -1].double() * scale**2  # nobody else is nearer
            still_left.append(rows[~reached])
        left = torch.cat(still_left)
        if not len(left):
            break
    return radii


def _nearest(side: "_Side", left: Tensor, count: int, error: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of some rows at a time: themselves, at least how far their nearest are, ascending, and which [rows, count]."""
    if len(left) < len(side.norms) or count == len(side.norms):  # all distances of all rows are too many to hold
        for rows in _blocks(left, side):
            bounds, nearest = _at_least(side, side, rows, error).clamp_(min=0).topk(count, largest=False)
            yield rows, bounds, nearest
        return
    bounds, nearest = _nearest_of_all(side, count, error)
    yield from ((rows, bounds[rows], nearest[rows]) for rows in _blocks(left, side))


def _nearest_of_all(side: "_Side", count: int, error: float) -> tuple[Tensor, Tensor]:
    """The same of all rows [N, count]; every pair is multiplied once, and counts for both."""
    length = len(side.norms)
    bounds = torch.full((length, count), torch.inf, dtype=side.norms.dtype, device=side.norms.device)
    nearest = torch.zeros((length, count), dtype=torch.long, device=side.norms.device)
    parts = torch.arange(length, device=side.norms.device).split(math.isqrt(BLOCK))

    def keep(rows: Tensor, columns: Tensor, distances: Tensor) -> None:
        found, place = distances.topk(min(count, len(columns)), largest=False)
        candidates = torch.cat((bounds[rows], found), 1), torch.cat((nearest[rows], columns[place]), 1)
        bounds[rows], chosen = candidates[0].topk(count, largest=False)
        nearest[rows] = candidates[1].gather(1, chosen)

    for number, rows in enumerate(parts):
        for columns in parts[number:]:
            low = (1 - error) * side.norms
            distances = (side.small[rows] @ side.small[columns].T).mul_(-2).add_(low[columns]).add_(low[rows, None])
            distances.clamp_(min=0)
            keep(rows, columns, distances)
            if columns is not rows:
                keep(columns, rows, distances.T.contiguous())  # within columns it would take twice as long
    return bounds, nearest


class _Side(NamedTuple):
    """One set [N, D], the same shifted and scaled in fewer bits, and the squared norms of these [N]."""

    samples: Tensor
    small: Tensor
    norms: Tensor


def _scaled(sets: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[list[_Side], float, float]:
    """Sets around the mean of the first in units of their largest coordinate, this unit, and an error.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, where a scalar product of D terms is wrong by at most D roundings of |x| |y|;
    so all is wrong by at most the error times |x|^2 + |y|^2.
    """
    centre = sets[0].mean(0, dtype=torch.float64).to(sets[0].dtype)
    shifted = [each - centre for each in sets]
    scale = 2.0 ** math.frexp(max(float(each.abs().max()) for each in shifted))[1]
    small = [each.div_(scale).to(dtype) for each in shifted]
    norms = [torch.linalg.vector_norm(each, dim=1, dtype=torch.float64).square().to(dtype) for each in small]
    error = (sets[0].shape[1] + ROUNDINGS) * torch.finfo(dtype).eps / 2
    return [_Side(*parts) for parts in zip(sets, small, norms, strict=True)], scale, error


def _blocks(rows: Tensor, columns: _Side) -> tuple[Tensor, ...]:
    """As many rows at a time as `BLOCK` allows."""
    return rows.split(max(BLOCK // len(columns.norms), 1)) if len(rows) else ()


def _products(first: _Side, second: _Side, rows: Tensor) -> Tensor:
    return (first.small[rows] @ second.small.T).mul_(-2)


def _at_least(first: _Side, second: _Side, rows: Tensor, error: float, reach: Tensor | float = 0.0) -> Tensor:
    """No more than the squared distances of these rows to all of the second set, less the reach of the latter."""
    low = 1 - error
    return _products(first, second, rows).add_(low * second.norms - reach).add_(low * first.norms[rows, None])


def _decided(outside: Tensor, first: _Side, second: _Side, reach: Tensor, radii: Tensor, error: float) -> Tensor:
    """Who of the first set lies in a ball of the second, given how far outside each is at most and at least [2, N]."""
    inside = outside[0] <= 0
    for rows in _blocks(((outside[1] <= 0) & ~inside).nonzero()[:, 0], second):
        which, ball = (_at_least(first, second, rows, error, reach) <= 0).nonzero(as_tuple=True)
        held = _squared_distances(first.samples, rows[which], second.samples, ball) <= radii[ball]
        inside[rows[which[held]]] = True
    return inside


def _squared_distances(first: Tensor, rows: Tensor, second: Tensor, columns: Tensor) -> Tensor:
    """Of pairs of rows, [P] float64."""
    size = max(DIFFERENCES // first.shape[1], 1)
    pairs = zip(rows.split(size), columns.split(size), strict=True)
    return torch.cat([(first[i].double() - second[j].double()).square().sum(1) for i, j in pairs])

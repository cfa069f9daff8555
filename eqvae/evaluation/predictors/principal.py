"""Leading principal directions, exactly and without random starts."""

import torch
from scipy.linalg import eigh
from torch import Tensor

NEGLIGIBLE = 1e-8  # share of the largest variance below which a direction is rounding


def principal_directions(vectors: Tensor, count: int) -> Tensor:
    """The `count` orthonormal directions of most variance of [N, D], [D, count] float64, the first one first.

    Fewer where fewer carry variance.
    """
    centred = vectors.double() - vectors.double().mean(0)
    wide = centred.shape[0] < centred.shape[1]
    products = (centred @ centred.T if wide else centred.T @ centred).numpy()
    size = len(products)
    values, found = map(torch.from_numpy, eigh(products, subset_by_index=[max(0, size - count), size - 1]))
    found = found[:, values > max(float(values[-1]) * NEGLIGIBLE, 0.0)].flip(1)
    directions = centred.T @ found if wide else found
    return directions / directions.norm(dim=0)

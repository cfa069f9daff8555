"""Latent pixels as tokens: unit vectors [C] on a grid, and which of them are near or far."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR, FAR = 24 / 256, 96 / 256  # of the image's side
CELLS_FAR = 6  # the published threshold, at a sixteenth of 256 pixels
MIN_SIDE = 4  # of a grid, so that something is far


class Reach(NamedTuple):
    """Distances in cells: tokens are near up to the first and far from the second on."""

    near: float
    far: float


CELLS = Reach(1, CELLS_FAR)


def pixel_reach(side: int) -> Reach:
    """What is near and far on the image, on a grid of this side: 1 and 6 cells on 16, 3 and 12 on 32."""
    return Reach(max(1.0, NEAR * side), FAR * side)


def unit_tokens(latents: Tensor, centred: bool = False) -> Tensor:
    """[N, C, h, w] to unit vectors [N, C, h w]; `centred` takes each image's mean token away first."""
    tokens = latents.flatten(2)
    return F.normalize(tokens - tokens.mean(2, keepdim=True) if centred else tokens, dim=1)


def grid_distances(height: int, width: int) -> Tensor:
    """Manhattan distances between cells, [h w, h w]."""
    y, x = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    return (y[:, None] - y).abs() + (x[:, None] - x).abs()

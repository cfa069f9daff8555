"""What the transformer is told: time, class, position."""

import math

import torch
from torch import Tensor, nn

from dit.backbones.layers import linear

FREQUENCIES = 128
LONGEST_PERIOD = 10_000.0


def sinusoids(t: Tensor, frequency_divisor: int = FREQUENCIES) -> Tensor:
    """Cosines, then sines [B, 256] of times [B] at the frequencies 10000^(-i / n), i = 0 ... 127, n the divisor."""
    numbers = torch.arange(FREQUENCIES, dtype=torch.float32, device=t.device)
    # In this order, as others do: a frequency that is rounded otherwise is seen at timestep 1000.
    angles = t.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * numbers / frequency_divisor)
    return torch.cat((angles.cos(), angles.sin()), dim=1)


class TimestepEmbedder(nn.Module):
    """Sinusoids of the time (cosines first), then a two-layer perceptron (DiT, section 3.1).

    Args:
        hidden_size: width of what comes out.
        frequency_divisor: as of `sinusoids`.
    """

    def __init__(self, hidden_size: int, frequency_divisor: int = FREQUENCIES):
        super().__init__()
        self.frequency_divisor = frequency_divisor
        self.mlp = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, t: Tensor) -> Tensor:
        """Times [B], any unit, to [B, D]."""
        waves = sinusoids(t, self.frequency_divisor)
        return self.mlp(waves.to(linear(self.mlp, 0).weight.dtype))


class LabelEmbedder(nn.Module):
    """A row per class, and one for "no class" if labels are ever dropped.

    Args:
        num_classes: the null label is this number.
        dropout_probability: of dropping a label in training; 0 makes no null row.
    """

    def __init__(self, num_classes: int, hidden_size: int, dropout_probability: float):
        super().__init__()
        self.num_classes, self.dropout_probability = num_classes, dropout_probability
        self.embedding_table = nn.Embedding(num_classes + (dropout_probability > 0), hidden_size)

    def forward(self, labels: Tensor, drop: Tensor | None = None) -> Tensor:
        """Labels [B] to [B, D].

        Args:
            drop: [B] bool, which labels become null; None drops at random while training and none in evaluation.
        """
        if drop is None and self.training and self.dropout_probability > 0:
            drop = torch.rand(len(labels), device=labels.device) < self.dropout_probability
        if drop is not None and self.dropout_probability > 0:
            labels = torch.where(drop, self.num_classes, labels)
        return self.embedding_table(labels)


def position_table(hidden_size: int, side: int) -> Tensor:
    """Fixed 2-D sine-cosine positions [1, side * side, D]: the first half of the channels tells the column."""
    quarter = hidden_size // 4
    frequencies = LONGEST_PERIOD ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)  # [side, D / 2]
    columns, rows = waves[None].expand(side, -1, -1), waves[:, None].expand(-1, side, -1)
    return torch.cat((columns, rows), dim=2).reshape(1, side * side, hidden_size).float()

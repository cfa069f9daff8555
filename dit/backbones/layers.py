"""What `nn.Sequential` holds, as what it is."""

from torch import nn


def linear(layers: nn.Sequential, place: int) -> nn.Linear:
    """The linear layer at a place in a sequence."""
    layer = layers[place]
    assert isinstance(layer, nn.Linear)
    return layer

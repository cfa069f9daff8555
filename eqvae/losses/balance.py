"""How strongly a loss pulls at a layer, for weights that balance two losses by it."""

import torch
from torch import Tensor

from eqvae.precision import at_least_float32


def gradient_norm(value: Tensor, layer: Tensor, at_value: Tensor | None = None) -> Tensor:
    """Norm of a gradient at a layer's weight, that of the global batch: averaged over devices before it is taken.

    Args:
        value: a scalar, or with `at_value` a tensor of any shape, attached to the layer; its graph is kept.
        at_value: gradient of the loss with respect to `value`.
    """
    (at_layer,) = torch.autograd.grad(value, layer, at_value, retain_graph=True)
    return mean_over_devices(at_least_float32(at_layer)).norm()


def norm_ratio(numerator: Tensor, denominator: Tensor, largest: float) -> Tensor:
    """By how much the second norm is to be multiplied to be as large as the first, clamped to [0, largest].

    Source: Esser et al., "Taming transformers", 2021, equation 7.
    """
    return (numerator / (denominator + 1e-4)).clamp(0.0, largest)


def mean_over_devices(values: Tensor) -> Tensor:
    """The mean of a detached tensor that every device has; no gradient passes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    torch.distributed.all_reduce(values)
    return values / torch.distributed.get_world_size()

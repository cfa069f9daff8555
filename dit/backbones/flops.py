"""What a backbone weighs and costs, in the papers' units."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dit.backbones.interface import Backbone


def num_parameters(model: nn.Module) -> int:
    """Trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def num_multiply_adds(model: Backbone) -> int:
    """Multiply-adds of one forward pass of one sample: what the papers call Gflops, times 1e9.

    Those of matrix products and convolutions, counted on a twin without values.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin = type(model)(**model.config)
        assert isinstance(twin, nn.Module)
        twin.to("meta").eval()
        twin(twin.example(), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    return counter.get_total_flops() // 2

"""Gradients of the parameters that a fit trains: found once, their norms taken once a step."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from eqvae.training.sharding import local_part


class Gradients:
    """Parameters of one network, their gradients' norms for whoever judges them, and clipping by the same norms.

    Args:
        parameters: of the network; those that do not train are left out. Walked here and never again.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._sharded = any(isinstance(parameter, DTensor) for parameter in self.parameters)
        self._norms: tuple[Tensor, ...] = ()

    def measure(self) -> tuple[Tensor, ...]:
        """The norm of each gradient that is there, of a sharded one of this process's part; kept for `clip`."""
        gradients = [local_part(each.grad) for each in self.parameters if each.grad is not None]
        self._norms = torch._foreach_norm(gradients) if gradients else ()
        return self._norms

    def clip(self, max_norm: float) -> None:
        """Scale the gradients down to this norm of all of them together, as measured before; smaller ones stay.

        The arithmetic is that of `torch.nn.utils.clip_grad_norm_`, but for the norms, which it would take again.
        """
        if self._sharded:
            torch.nn.utils.clip_grad_norm_(self.parameters, max_norm)  # its norm is one over all processes
        elif self._norms:
            total = torch.linalg.vector_norm(torch.stack(self._norms))
            torch.nn.utils.clip_grads_with_norm_(self.parameters, max_norm, total)

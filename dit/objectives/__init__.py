"""What a generator learns. Objectives know nothing of Lightning, autoencoders or files.

Time conventions, once for the whole house: flow time runs from t = 0 (noise) to t = 1 (data); diffusion timesteps are
integers from 0 (least noisy) to T - 1. An objective maps uniform numbers to times (`sample_times`), turns a prediction
into loss terms per sample (`training_terms`, deterministic), and joins the two around a model (`loss_terms`).
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from dit.objectives.diffusion import Diffusion, space_timesteps
from dit.objectives.flow import Flow
from dit.objectives.masked import MaskedTokens


@runtime_checkable
class Objective(Protocol):
    """What `GeneratorModule` needs of an objective."""

    config: dict
    learns: str  # "latents" or "tokens", as a cache's specification says
    default_sampler: str  # a key of `dit.samplers.SAMPLERS`

    def sample_times(self, uniform: Tensor) -> Tensor:
        """Uniform numbers in (0, 1) [B] to times [B]."""
        ...

    def flow_time(self, t: Tensor) -> Tensor:
        """Times [B] as shares of the way from noise (0) to data (1)."""
        ...

    def loss_terms(
        self, model: Callable[..., Tensor], data: Tensor, noise: Tensor, t: Tensor, **conditions: Tensor
    ) -> dict[str, Tensor]:
        """Terms [B] of `model(x_t, t, **conditions)`; `loss` is what is minimized."""
        ...


OBJECTIVES = {"Diffusion": Diffusion, "Flow": Flow, "MaskedTokens": MaskedTokens}

__all__ = ["OBJECTIVES", "Diffusion", "Flow", "MaskedTokens", "Objective", "space_timesteps"]

"""What a sampler is: one call for all of them, and what each says of itself."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

Model = Callable[..., Tensor]
"""`model(x, t)`, labels and guidance bound by `guide`; a third argument is the time that decides on guidance."""

StepNoise = Callable[[int], Tensor]
"""Standard normal noise of draw 0, 1, ..., of the shape of x."""

Callback = Callable[[int, Tensor, float], None]
"""Told step, x and time after each step."""

SamplerFunction = Callable[[Any, Model, Tensor, int, StepNoise, Any, Callback], Tensor]
"""(objective, model, noise, num_inference_steps, step_noise, settings, callback) to latents or tokens."""

Steps = Callable[[Any, int, Any, int | None], None]
"""(objective, num_inference_steps, settings, places of the grid or None) refuses what cannot be sampled."""


def _any_number(objective: Any, num_inference_steps: int, settings: Any, num_places: int | None) -> None:
    """Of a sampler that takes every number of steps from 1 on."""


def _no_noise(draw: int) -> Tensor:
    """Stands in where a sampler adds none."""
    raise AssertionError("a sampler that adds noise says so in draws_noise")


@dataclass(frozen=True)
class NoSettings:
    """Of a sampler that has none."""


@dataclass(frozen=True)
class Sampler:
    """A way from noise to data, and the call that all share.

    Args:
        name: in commands and configs.
        function: does it, with `num_inference_steps` of at least 1, settings of its own class and a callback.
        serves: class of the objectives whose predictions it understands.
        settings: dataclass of its own settings; equal names mean the same in all samplers.
        draws_noise: whether it needs noise of each step.
        require_steps: refuses numbers of steps that it cannot take, before anything is sampled.
    """

    name: str
    function: SamplerFunction
    serves: type
    settings: type = NoSettings
    draws_noise: bool = False
    require_steps: Steps = _any_number

    @property
    def setting_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in fields(self.settings))

    def __call__(
        self,
        objective: Any,
        model: Model,
        noise: Tensor,
        num_inference_steps: int,
        step_noise: StepNoise | None = None,
        callback: Callback | None = None,
        settings: Any = None,
    ) -> Tensor:
        """Sample; arguments, result and errors as of `dit.samplers.sample`."""
        settings = self.settings() if settings is None else settings
        if not isinstance(settings, self.settings):
            kinds = (self.settings.__name__, type(settings).__name__)
            raise ValueError(f"sampler {self.name!r} takes {kinds[0]}, got {kinds[1]}")
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}")
        if self.draws_noise and step_noise is None:
            raise ValueError(f"sampler {self.name!r} adds noise at each step: give step_noise")
        self.require_steps(objective, num_inference_steps, settings, math.prod(noise.shape[-2:]))
        callback = callback or (lambda step, x, time: None)
        return self.function(objective, model, noise, num_inference_steps, step_noise or _no_noise, settings, callback)

    def build_settings(self, options: Mapping[str, Any]) -> Any:
        """Its settings from plain values by name, each of the type it is declared with.

        Raises:
            ValueError: naming the option, where it is out of range, of another type, or none of this sampler's.
        """
        unknown = [name for name in options if name not in self.setting_names]
        if unknown:
            takes = ", ".join(self.setting_names) or "no options"
            raise ValueError(f"sampler {self.name!r} takes no {unknown[0]}: it takes {takes}")
        try:
            return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(self.settings), dict(options)))
        except OmegaConfBaseException as error:
            raise ValueError(f"{error.full_key} of sampler {self.name!r}: {str(error).splitlines()[0]}") from None

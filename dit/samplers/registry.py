"""All samplers by name, and the one call that goes to any of them. A new one is one object in one file, named here."""

from typing import Any

from torch import Tensor

from dit.samplers.ddpm import DDIM, DDPM
from dit.samplers.dpm import DPM_SOLVER
from dit.samplers.masked import CONFIDENCE, HALTON
from dit.samplers.ode import ADAPTIVE, EULER, HEUN, MIDPOINT, REPA_HEUN
from dit.samplers.sampler import Callback, Model, Sampler, StepNoise
from dit.samplers.sde import EULER_MARUYAMA, STOCHASTIC_HEUN

SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        EULER, HEUN, MIDPOINT, ADAPTIVE, REPA_HEUN, EULER_MARUYAMA, STOCHASTIC_HEUN, DDPM, DDIM, DPM_SOLVER,
        CONFIDENCE, HALTON,
    )
}  # fmt: skip


def find_sampler(name: str, objective: Any = None) -> Sampler:
    """The sampler of that name.

    Args:
        objective: one that it must serve, or its class; None: whatever it serves.

    Raises:
        ValueError: if it is unknown or does not serve the objective, with those that do.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler {name!r} is unknown: use one of {', '.join(SAMPLERS)}")
    kind = objective if isinstance(objective, type) else type(objective)
    if objective is None or issubclass(kind, SAMPLERS[name].serves):
        return SAMPLERS[name]
    fitting = ", ".join(sampler.name for sampler in SAMPLERS.values() if issubclass(kind, sampler.serves))
    raise ValueError(f"sampler {name!r} does not fit a {kind.__name__} model: use one of {fitting}")


def sample(
    objective: Any,
    model: Model,
    noise: Tensor,
    sampler: str = "heun",
    num_inference_steps: int = 50,
    step_noise: StepNoise | None = None,
    callback: Callback | None = None,
    settings: Any = None,
) -> Tensor:
    """Normalized latents [B, C, h, w], or tokens [B, h, w] int64, from noise of that shape.

    Args:
        objective: what the model was trained with.
        model: `model(x, t)`, labels and guidance bound by `guide`.
        noise: standard normal.
        sampler: a key of `SAMPLERS` that serves the objective.
        num_inference_steps: steps; Heuns and midpoint evaluate the model twice in each, "adaptive" as it likes.
        step_noise: noise of each step, for the samplers with randomness.
        callback: called with step, x and time after each step.
        settings: of the sampler's own class (`SAMPLERS[sampler].settings`); its defaults if None.

    Raises:
        ValueError: if the sampler is unknown or does not serve the objective, lacks its noise, has settings of another
            one, or without steps.
    """
    chosen = find_sampler(sampler, objective)
    return chosen(objective, model, noise, num_inference_steps, step_noise, callback, settings)

"""Settings of samplers, each class for those that its `samplers` names; `dit.samplers.registry` has the samplers.

Nothing here imports torch: the options of commands are made from these, and their help has to be there at once.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from eqvae.ranges import require_number

SPACINGS = ("linspace", "leading")
SCHEDULES = ("arccos", "cosine", "linear", "square", "root")
DIFFUSIONS = ("constant", "sbdm", "sigma", "linear", "decreasing", "increasing-decreasing")
LAST_STEPS = ("mean", "euler", "tweedie", "none")


@dataclass(frozen=True)
class FlowSettings:
    """Where a solver with fixed steps takes them.

    Args:
        timestep_shift: s of t' = s t / (1 + (s - 1) t); below 1 makes steps near the noise smaller (LightningDiT: 0.3).
            Null takes the objective's own, with which it was trained, as RAE does.

    Raises:
        ValueError: if it is not positive.
    """

    samplers: ClassVar[tuple[str, ...]] = ("euler", "heun", "midpoint", "repa_heun")
    timestep_shift: float | None = None

    def __post_init__(self):
        if self.timestep_shift is not None:
            require_number("timestep_shift", self.timestep_shift, above=0)


@dataclass(frozen=True)
class AdaptiveSettings:
    """How exact the adaptive solver is; the defaults are SiT's.

    Args:
        relative_tolerance: error of a step as a share of x.
        absolute_tolerance: error of a step where x is small.

    Raises:
        ValueError: if one of them is not positive.
    """

    samplers: ClassVar[tuple[str, ...]] = ("adaptive",)
    relative_tolerance: float = 1e-3
    absolute_tolerance: float = 1e-6

    def __post_init__(self):
        require_number("relative_tolerance", self.relative_tolerance, above=0)
        require_number("absolute_tolerance", self.absolute_tolerance, above=0)


@dataclass(frozen=True)
class StochasticSettings:
    """How much noise a stochastic sampler adds on its way; the defaults are those of SiT's published numbers.

    Args:
        diffusion: form of the noise's coefficient w: constant, sbdm (the path's own reverse diffusion), sigma, linear
            (1 - t), decreasing or increasing-decreasing.
        diffusion_norm: factor of w.
        last_step: last step, without noise, from 1 - last_step_size to 1: mean (drift and score), euler (drift alone),
            tweedie (the expected data), or none, which takes noisy steps to the end.
        last_step_size: length of the last step, in time.

    Raises:
        ValueError: for a form or last step of another name, a factor below 0, or a step that is no part of [0, 1].
    """

    samplers: ClassVar[tuple[str, ...]] = ("euler_maruyama", "stochastic_heun")
    diffusion: Literal["constant", "sbdm", "sigma", "linear", "decreasing", "increasing-decreasing"] = "sigma"
    diffusion_norm: float = 1.0
    last_step: Literal["mean", "euler", "tweedie", "none"] = "mean"
    last_step_size: float = 0.04

    def __post_init__(self):
        if self.diffusion not in DIFFUSIONS:
            raise ValueError(f"diffusion {self.diffusion!r} is unknown: use one of {', '.join(DIFFUSIONS)}")
        if self.last_step not in LAST_STEPS:
            raise ValueError(f"last_step {self.last_step!r} is unknown: use one of {', '.join(LAST_STEPS)}")
        require_number("diffusion_norm", self.diffusion_norm, least=0)
        if not 0 < self.last_step_size < 1:
            raise ValueError(f"last_step_size must lie between 0 and 1, got {self.last_step_size}")


@dataclass(frozen=True)
class DiffusionSettings:
    """Which timesteps a diffusion sampler visits.

    Args:
        timestep_spacing: in diffusers' words "linspace", with both ends and rounding (the public DiT), or "leading",
            whole strides from 0 (the exported pipeline).

    Raises:
        ValueError: for a spacing of another name.
    """

    samplers: ClassVar[tuple[str, ...]] = ("ddpm", "ddim", "dpm_solver")
    timestep_spacing: Literal["linspace", "leading"] = "linspace"

    def __post_init__(self):
        if self.timestep_spacing not in SPACINGS:
            known = " or ".join(SPACINGS)
            raise ValueError(f"timestep_spacing {self.timestep_spacing!r} is unknown: use {known}")


@dataclass(frozen=True)
class TokenSettings:
    """How tokens are sampled.

    Args:
        schedule: growth of the number of known tokens: "arccos", "cosine", "linear", "square" or "root".
        counts: of "confidence": "proportional" commits in each step a number proportional to the schedule's mask ratio
            (v1), "cumulative" commits what the schedule says is known by then, nothing at first (v2).
        gumbel_temperature: of "confidence": noise on the confidences, falling linearly to none at the last step.
        inverse_temperature: factor of the logits; above 1 sharpens.
        warmup_steps: first steps, with half of the inverse temperature.
        top_k: number of likeliest codes that are drawn from; null draws from all.
        halton_shift: of "halton": start the order at another place in each image.

    Raises:
        ValueError: naming the setting that is out of range.
    """

    samplers: ClassVar[tuple[str, ...]] = ("confidence", "halton")
    schedule: Literal["arccos", "cosine", "linear", "square", "root"] = "arccos"
    counts: Literal["proportional", "cumulative"] = "proportional"
    gumbel_temperature: float = 4.5
    inverse_temperature: float = 1.0
    warmup_steps: int = 0
    top_k: int | None = None
    halton_shift: bool = False

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"token schedule {self.schedule!r} is unknown: use one of {', '.join(SCHEDULES)}")
        if self.counts not in ("proportional", "cumulative"):
            raise ValueError(f"token counts {self.counts!r} are unknown: use proportional or cumulative")
        require_number("inverse_temperature", self.inverse_temperature, above=0)
        require_number("gumbel_temperature", self.gumbel_temperature, least=0)
        require_number("warmup_steps", self.warmup_steps, least=0)
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}: leave it out to draw from all codes")


OWN_SETTINGS = (FlowSettings, AdaptiveSettings, StochasticSettings, DiffusionSettings, TokenSettings)

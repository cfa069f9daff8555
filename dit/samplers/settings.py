"""All settings of a generation, declared once: for `sample.py`, previews and the evaluations of a sweep."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import dit.samplers  # its names are imported when they are used, and torch with them
from eqvae.commands import nearest
from eqvae.ranges import require_number

if TYPE_CHECKING:
    from dit.samplers.sampler import Sampler


UNIT_END = 1.0  # of the times of flows and tokens
USUAL_END = 1000.0  # timesteps of DiT's diffusion


@dataclass(frozen=True)
class SamplingSettings:
    """How images are sampled; written into every result.

    Args:
        sampler: of `dit.samplers.SAMPLERS`; null takes the objective's own (heun, ddpm, halton).
        num_inference_steps: steps of the sampler.
        guidance_scale: scale of classifier-free guidance; 1 is none.
        guidance_channels: "all", or "first3" as the public DiT and SiT samplers do.
        guidance_interval: first and last time at which guidance acts: flow times or diffusion timesteps. A last one of
            1000, the default, is the end of longer diffusions, too.
        guidance_schedule: "constant", or "linear": the scale grows from 1 at t = 0 to guidance_scale at t = 1.
        seed: seed of starting noise, step noise and random labels.
        uint8_rule: "round", or "truncate" as the public samplers do.
        options: the sampler's own settings by name, those that are not its defaults (`Sampler.settings`).

    Raises:
        ValueError: naming the number that is not finite or out of its range, or an option that the sampler does not
            take.
    """

    sampler: str | None = None
    num_inference_steps: int = 50
    guidance_scale: float = 1.0
    guidance_channels: Literal["all", "first3"] = "all"
    guidance_interval: tuple[float, float] = (0.0, USUAL_END)
    guidance_schedule: Literal["constant", "linear"] = "constant"
    seed: int = 0
    uint8_rule: Literal["round", "truncate"] = "round"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        require_number("num_inference_steps", self.num_inference_steps, least=1)
        require_number("guidance_scale", self.guidance_scale, least=0)
        low, high = self.guidance_interval
        require_number("guidance_interval's low", low, least=0)
        require_number("guidance_interval's high", high, least=low)
        if self.sampler is not None:
            dit.samplers.find_sampler(self.sampler).build_settings(self.options)
        known = {name for sampler in dit.samplers.SAMPLERS.values() for name in sampler.setting_names}
        for name in self.options.keys() - known:
            raise ValueError(f"option {name} is taken by no sampler: {nearest(name, sorted(known))}")

    @property
    def guided_times(self) -> tuple[float, float]:
        """The interval, with infinity for its default's end."""
        low, high = self.guidance_interval
        return low, math.inf if high == USUAL_END else high

    def sampler_for(self, objective: Any) -> "Sampler":
        """The sampler, that of the objective (or of its class) where none is named.

        Raises:
            ValueError: if it does not serve the objective.
        """
        return dit.samplers.find_sampler(self.sampler or objective.default_sampler, objective)

    def spelled_out(self, objective: Any, num_places: int | None = None) -> Self:
        """The same for one objective (or its class) with nothing left to defaults: equal work has equal settings.

        A setting of the sampler's own that is null takes the objective's of that name, where it has one; of a class,
        whose settings are not known, it stays null.

        Args:
            num_places: of the grid that is sampled, h x w; None where it is not known.

        Raises:
            ValueError: if the sampler does not serve the objective, does not take an option or so many steps, or if
                guidance would not be what is asked for.
        """
        sampler = self.sampler_for(objective)
        settings = sampler.build_settings(self.options)
        if self.guidance_scale != 1:
            self._require_meant_guidance(objective)
        if not isinstance(objective, type):
            sampler.require_steps(objective, self.num_inference_steps, settings, num_places)
        built = dataclasses.asdict(settings)
        own = {name: getattr(objective, name, None) if value is None else value for name, value in built.items()}
        return dataclasses.replace(self, sampler=sampler.name, options=own)

    def _require_meant_guidance(self, objective: Any) -> None:
        """Refuse guidance of other times or channels than the objective has, which would be none, or fail."""
        low, high = self.guidance_interval
        if getattr(objective, "counts_timesteps", False):
            if self.guidance_schedule != "constant":
                raise ValueError("guidance_schedule linear needs times in [0, 1], diffusion timesteps are none")
            if low != int(low) or high != int(high):
                raise ValueError(f"guidance_interval {low:g} {high:g}: timesteps of a diffusion are whole numbers")
            if low >= getattr(objective, "num_timesteps", math.inf):
                raise ValueError(f"guidance_interval {low:g} {high:g}: no timestep is as large, none would be guided")
        elif low >= UNIT_END:
            raise ValueError(f"guidance_interval {low:g} {high:g}: times lie in [0, 1], none would be guided")
        if objective.learns == "tokens" and self.guidance_channels != "all":
            raise ValueError(f"guidance_channels {self.guidance_channels} are those of latents: use all for tokens")

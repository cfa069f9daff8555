"""Settings of sampling: named, spelled out, and as options of a command line."""

import dataclasses
from typing import ClassVar

import pytest
import torch

from dit.objectives import Diffusion, Flow, MaskedTokens
from dit.samplers import SAMPLERS, Sampler, SamplingSettings, sample
from dit.samplers.own_settings import OWN_SETTINGS
from dit.sampling_options import add_sampling_options, sampling_settings
from eqvae.commands import CommandParser


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("heun", {"diffusion_norm": 2.0}, "sampler 'heun' takes no diffusion_norm: it takes timestep_shift"),
        ("ddim", {"timestep_spacing": "trailing"}, "timestep_spacing of sampler 'ddim': Invalid value 'trailing'"),
        ("euler", {"timestep_shift": "much"}, "timestep_shift of sampler 'euler': Value 'much'"),
        ("euler", {"timestep_shift": -1}, "timestep_shift must be above 0"),
        ("oiler", {}, "sampler 'oiler' is unknown: use one of euler"),
        (None, {"timestep_shfit": 1.0}, "timestep_shfit is taken by no sampler: did you mean timestep_shift"),
    ],
)
def test_impossible_options(sampler, options, message):
    with pytest.raises(ValueError, match=message) as error:
        SamplingSettings(sampler, options=options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("objective", [Flow(), Flow, Diffusion, MaskedTokens])
def test_settings_that_mean_the_same_are_spelled_out_alike(objective):
    """An unnamed sampler is the objective's own, an option that is not given its default, 1 is 1.0."""
    left_out = SamplingSettings().spelled_out(objective)
    sampler = SAMPLERS[left_out.sampler]
    assert tuple(left_out.options) == sampler.setting_names
    assert left_out == SamplingSettings(objective.default_sampler).spelled_out(objective)
    for name, value in left_out.options.items():
        whole = int(value) if isinstance(value, float) and value == int(value) else value
        assert SamplingSettings(options={name: whole}).spelled_out(objective) == left_out
    assert left_out.spelled_out(objective) == left_out
    other = next(name for name, each in SAMPLERS.items() if each.serves is not sampler.serves)
    with pytest.raises(ValueError, match=f"'{other}' does not fit a"):
        SamplingSettings(other).spelled_out(objective)


def test_no_setting_has_two_meanings():
    """Options of a command line and of a sweep are flat: a name belongs to one class of settings, and to no other."""
    kinds = {sampler.settings for sampler in SAMPLERS.values()} | {SamplingSettings}
    names = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    assert sorted(names) == sorted(set(names))


def test_a_new_sampler_is_one_object(monkeypatch):
    """Named in the registry it has options on the command line, is refused for others, and gets its settings."""

    @dataclasses.dataclass(frozen=True)
    class HalfwaySettings:
        """How far.

        Args:
            way: share of the way to zero.
        """

        samplers: ClassVar[tuple[str, ...]] = ("halfway",)
        way: float = 0.5

    def halfway(flow, model, x, num_inference_steps, step_noise, settings, callback):
        for step in range(num_inference_steps):
            x = x + settings.way * model(x, torch.full((len(x),), step))
            callback(step, x, step)
        return x

    monkeypatch.setitem(SAMPLERS, "halfway", Sampler("halfway", halfway, Flow, HalfwaySettings))
    monkeypatch.setattr("dit.sampling_options.OWN_SETTINGS", (*OWN_SETTINGS, HalfwaySettings))  # for its options
    parser = CommandParser()
    add_sampling_options(parser)
    words = ["--sampler", "halfway", "--way", "0.25", "--num-inference-steps", "2"]
    settings = sampling_settings(parser.parse_args(words)).spelled_out(Flow())
    assert settings == SamplingSettings("halfway", 2, options={"way": 0.25})
    assert "--way WAY" in parser.format_help()
    own = SAMPLERS["halfway"].build_settings(settings.options)
    end = sample(Flow(), lambda x, t: -x, torch.ones(1, 1, 1, 1), settings.sampler, 2, settings=own)
    assert float(end) == 0.75**2
    with pytest.raises(ValueError, match="'halfway' does not fit a Diffusion model"):
        settings.spelled_out(Diffusion())


def test_only_what_is_given_becomes_an_option():
    parser = CommandParser()
    add_sampling_options(parser)
    assert sampling_settings(parser.parse_args([])) == SamplingSettings()
    words = ["--guidance-interval", "0.2", "0.7", "--halton-shift", "--top-k", "3", "--uint8-rule", "truncate"]
    expected = SamplingSettings(guidance_interval=(0.2, 0.7), uint8_rule="truncate")
    expected = dataclasses.replace(expected, options={"halton_shift": True, "top_k": 3})
    assert sampling_settings(parser.parse_args(words)) == expected

"""What cannot be sampled is refused before anything is trained or sampled for it."""

import re
import warnings
from functools import partial

import pytest
import torch

from dit.backbones import DiT, SiT
from dit.objectives import Diffusion, Flow, MaskedTokens
from dit.samplers import SamplingSettings, sample
from dit.samplers.guidance import guide
from tests.dit.tiny import SIZES

GUIDED = partial(SamplingSettings, guidance_scale=2.0)


@pytest.mark.parametrize(
    ("objective", "settings", "message"),
    [
        (Diffusion(), GUIDED(guidance_schedule="linear"), "diffusion timesteps are none"),
        (Diffusion(), GUIDED(guidance_interval=(0.2, 0.8)), "timesteps of a diffusion are whole numbers"),
        (Diffusion(), GUIDED(guidance_interval=(1000, 1000)), "no timestep is as large"),
        (Flow(), GUIDED(guidance_interval=(1.0, 1.0)), "times lie in [0, 1], none would be guided"),
        (MaskedTokens(), GUIDED(guidance_interval=(2.0, 3.0)), "times lie in [0, 1], none would be guided"),
        (MaskedTokens(), GUIDED(guidance_channels="first3"), "those of latents: use all for tokens"),
        (MaskedTokens(), SamplingSettings(num_inference_steps=17), "17 is more than the 16 tokens"),
        (Diffusion(), SamplingSettings("ddpm", 1), "at least 2 timesteps, got 1"),
        (Diffusion(), SamplingSettings("ddpm", 1001), "use 1 to 1000"),
        (Diffusion(), SamplingSettings("ddim", 1, options={"timestep_spacing": "leading"}), "at least 2 timesteps"),
        (Diffusion(), SamplingSettings("dpm_solver", 1000), "dpm_solver takes 1 to 999"),
        (Flow(), SamplingSettings("euler_maruyama", 1), "give 2 or more"),
    ],
)
def test_it_is_named_as_soon_as_the_objective_is_known(objective, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settings.spelled_out(objective, num_places=16)


def test_what_does_not_guide_may_say_anything_of_guidance():
    SamplingSettings(guidance_interval=(0.2, 0.8)).spelled_out(Diffusion())


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 600), ("dpm_solver", 250)])
def test_a_spacing_that_begins_far_from_noise_is_warned_of(sampler, steps):
    settings = SamplingSettings(sampler, steps, options={"timestep_spacing": "leading"})
    with pytest.warns(UserWarning, match="leading spacing begins at timestep .*, not at noise"):
        settings.spelled_out(Diffusion())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SamplingSettings(sampler, 48 if sampler == "ddim" else 50).spelled_out(Diffusion())


@pytest.mark.parametrize(
    ("backbone", "objective"),
    [
        (DiT(**SIZES | {"in_channels": 1}), Flow()),
        (DiT(**SIZES | {"in_channels": 1}), Diffusion(learn_sigma=False)),
        (SiT(**SIZES | {"in_channels": 2}), Diffusion()),
        (DiT(**SIZES, learn_sigma=False), Diffusion()),
    ],
    ids=["two for one", "two for one noise", "two for four", "four for eight"],
)
def test_a_network_whose_outputs_the_objective_does_not_take_is_refused(backbone, objective):
    """With one or two channels the losses would broadcast."""
    latents = torch.randn(2, backbone.config["in_channels"], 4, 4)
    times = objective.sample_times(torch.tensor([0.3, 0.6]))
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"needs a network of \d output channels, this one has \d: set learn_sigma"):
        objective.loss_terms(backbone, latents, torch.randn_like(latents), times, y=labels)


def test_the_first_three_channels_of_fewer_are_all_of_them():
    """A learned variance behind them is not guided."""

    def network(x, t, labels):
        return labels.view(-1, 1, 1, 1).float().expand(-1, 2, 1, 1).clone()

    guided = guide(network, torch.tensor([1]), 5.0, null_label=0, channels="first3")
    assert guided(torch.zeros(1, 1, 1, 1), torch.tensor([0.5])).flatten().tolist() == [5.0, 1.0]


@pytest.mark.parametrize("sampler", ["halton", "confidence"])
def test_tokens_of_a_model_that_is_not_finite_stay_hidden_and_the_others_do_not_notice(sampler):
    logits = torch.randn(2, 9, 4, 4)

    def model(x, t):
        return logits if len(x) == 2 else logits[1:]

    noise = torch.randn(2, 4, 4)
    draws = torch.randn(8, 2, 4, 4)
    logits[0, 3, 2, 2] = torch.nan
    both = sample(MaskedTokens(), model, noise, sampler, 4, draws.__getitem__)
    alone = sample(MaskedTokens(), model, noise[1:], sampler, 4, lambda draw: draws[draw][1:])
    assert (both[0] < 0).any()
    assert torch.equal(both[1:], alone)
    assert (both[1] >= 0).all()

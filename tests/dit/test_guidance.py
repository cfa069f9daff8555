"""Classifier-free guidance: what it does to a prediction, where it acts, and what it costs."""

import math

import pytest
import torch

from dit.objectives import Flow
from dit.samplers import CountingModel, SamplingSettings, guide, image_noise, sample


def label_model(x, t, y):
    """Predicts its label in every channel, so that guidance is plain to see."""
    return torch.ones_like(x) * y.view(-1, 1, 1, 1)


def test_guidance_extrapolates():
    x, t, labels = torch.randn(2, 4, 2, 2), torch.full((2,), 0.5), torch.tensor([1, 2])
    everywhere = guide(label_model, labels, 3.0, null_label=5)(x, t)
    assert everywhere[:, :, 0, 0].tolist() == [[-7.0] * 4, [-4.0] * 4]  # 5 + 3 (y - 5)
    first = guide(label_model, labels, 3.0, null_label=5, channels="first3")(x, t)
    assert first[:, :, 0, 0].tolist() == [[-7.0, -7.0, -7.0, 1.0], [-4.0, -4.0, -4.0, 2.0]]


def test_guidance_leaves_the_variance():
    doubled = guide(lambda x, t, y: label_model(x, t, y).repeat(1, 2, 1, 1), torch.tensor([1]), 3.0, null_label=5)
    assert doubled(torch.zeros(1, 4, 1, 1), torch.zeros(1)).flatten().tolist() == [-7.0] * 4 + [1.0] * 4


@pytest.mark.parametrize(
    ("scale", "interval", "num_samples"),
    [(1.0, (0.0, 1.0), 20), (2.0, (0.0, 1.0), 40), (2.0, (0.3, 0.6), 28), (2.0, (2.0, 3.0), 20)],
)
def test_guidance_costs_only_where_it_acts(scale, interval, num_samples):
    """Ten Euler steps of two images at t = 0, 0.1, ... 0.9; four of them lie in the narrower interval."""
    backbone, noise = CountingModel(label_model), image_noise(torch.arange(2), (4, 2, 2), 0)
    sample(Flow(), guide(backbone, torch.tensor([1, 2]), scale, 5, interval=interval), noise, "euler", 10)
    assert backbone.num_evaluations == 10
    assert backbone.num_samples == num_samples


def test_guidance_acts_on_timesteps_by_default():
    guided = guide(label_model, torch.tensor([1]), 2.0, 5)
    assert float(guided(torch.zeros(1, 1, 1, 1), torch.tensor([999]))) == -3.0


def test_the_default_interval_ends_with_longer_diffusions():
    """It ended at 1,000 of their timesteps: most of 4,000 were not guided."""
    assert SamplingSettings().guided_times == (0.0, math.inf)
    assert SamplingSettings(guidance_interval=(100.0, 900.0)).guided_times == (100.0, 900.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_scale": 2.0}, "null label"),
        ({"guidance_scale": 2.0, "null_label": 5, "channels": "three"}, "channels 'three' are unknown"),
    ],
)
def test_impossible_guidance(arguments, message):
    with pytest.raises(ValueError, match=message):
        guide(label_model, torch.tensor([1]), **arguments)

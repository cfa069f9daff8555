"""Measures of a latent space on data whose answer is known."""

import math

import pytest
import torch

from eqvae.evaluation import effective_rank, high_frequency_share, intrinsic_dimension, radial_power_spectrum


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("method", ["twonn", "twonn_fit"])
def test_dimension_of_a_bent_five_dimensional_sheet(method):
    flat = torch.rand(2000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bent = torch.cat((flat, flat.square(), (3 * flat).sin()), dim=1) @ normal(15, 40)
    assert intrinsic_dimension(bent, method) == pytest.approx(5, rel=0.1)


def test_dimension_ignores_repeated_points_scale_and_shape():
    points = normal(400, 6)
    dimension = intrinsic_dimension(points)
    assert intrinsic_dimension(torch.cat((points, points[:100]))) == pytest.approx(dimension, rel=1e-9)
    assert intrinsic_dimension(1e3 * points.reshape(400, 3, 1, 2) + 5) == pytest.approx(dimension, rel=1e-6)
    assert intrinsic_dimension(points.numpy()) == dimension


def test_dimension_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="at least 3 different points, got 1"):
        intrinsic_dimension(torch.ones(50, 4))
    with pytest.raises(ValueError, match="use twonn or twonn_fit"):
        intrinsic_dimension(normal(50, 4), "pca")


def test_effective_rank():
    independent = normal(4000, 6, 2, 2)
    assert effective_rank(independent) == pytest.approx(6, rel=0.01)
    assert effective_rank(independent, of="latents") == pytest.approx(24, rel=0.01)
    one_direction = normal(500, 1, 2, 2) * torch.arange(1.0, 7.0)[None, :, None, None] + 3
    assert effective_rank(one_direction) == pytest.approx(1, abs=1e-6)
    unequal = normal(20000, 2, 1, 1) * torch.tensor([3.0, 1.0])[None, :, None, None]
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert effective_rank(unequal) == pytest.approx(math.exp(entropy), rel=0.02)


def test_high_frequency_share():
    noise = normal(400, 3, 8, 8)
    assert high_frequency_share(noise) == pytest.approx(1 - 25 / 64, abs=0.01)  # |k| <= 2 is low: 5 x 5 of 8 x 8
    x = torch.arange(8.0)[None, None, None, :].expand(2, 1, 8, 8)
    assert high_frequency_share((2 * math.pi * x / 8).sin()) == pytest.approx(0, abs=1e-9)
    assert high_frequency_share((math.pi * x).cos()) == pytest.approx(1, abs=1e-9)
    assert high_frequency_share(noise * 7 - 2) == pytest.approx(high_frequency_share(noise))


def test_radial_power_spectrum():
    frequencies, power = radial_power_spectrum(normal(2000, 3, 8, 8))
    assert frequencies.tolist() == [0, 0.125, 0.25, 0.375, 0.5]
    assert power == pytest.approx(torch.ones(5), abs=0.05)
    x = torch.arange(8.0)[None, None, None, :].expand(2, 1, 8, 8)
    _, wave = radial_power_spectrum((2 * math.pi * 3 * x / 8).sin())
    assert wave.argmax() == 3
    assert wave[[0, 1, 4]].abs().max() < 1e-9

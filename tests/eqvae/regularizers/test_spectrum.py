"""Spectrum matching: the DCT against its definition, rings and blocks against closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F

from eqvae.regularizers import DecodingSpectrumMatching, Pass, Reconstruction, SpectrumMatching
from eqvae.regularizers.spectrum import blurred, dct, inverse_dct, low_pass, radial_power, shares
from tests.eqvae.regularizers.registry import key
from tests.eqvae.test_objective import images


def divergence(latents, given, **options):
    action = SpectrumMatching(**options).draw(key())
    result = Reconstruction(given, given, latents, latents, None, None, given)
    (term,) = action.terms(Pass(None, result, None))
    return term.value


def test_the_dct_is_orthonormal_and_has_cosines_as_its_basis():
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    coefficients = dct(x)
    torch.testing.assert_close(inverse_dct(coefficients), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(coefficients.square().sum(), x.square().sum())
    wave = torch.cos(math.pi * 3 * (torch.arange(8) + 0.5) / 8).expand(6, 8)
    found = dct(wave)
    assert found[0, 3] == pytest.approx(math.sqrt(6 * 4), rel=1e-5)  # sqrt(6) of the constant, sqrt(8 / 2) of the wave
    found[0, 3] = 0
    assert found.abs().max() < 1e-5


def test_white_noise_has_equal_power_in_every_ring():
    power = radial_power(torch.randn(64, 16, 16, 16, generator=torch.Generator().manual_seed(0))).mean(0)
    # Ring 0 has the spatial mean, without power, and both frequencies (0, 1) and (1, 0): rho < 15 sqrt 2 / 16 = 1.3.
    assert power[0] == pytest.approx(2 / 3, rel=0.1)
    # Squares of 1024 normal values have a mean of 1 +- 0.044, of the last rings' few frequencies.
    assert power[1:].numpy() == pytest.approx(1, rel=0.15)


def test_an_image_has_its_own_spectrum():
    given = images(2, 32)
    small = F.interpolate(blurred(given, 1.2), (16, 16), mode="bicubic")
    assert divergence(small, given, delta=0.0).abs() < 1e-6
    assert divergence(small, given) > 1e-3  # flattened
    assert divergence(torch.randn(2, 4, 16, 16), given * torch.linspace(0, 1, 32)) > 1e-3


def test_the_divergence_is_that_of_its_formula():
    given, latents = images(2, 32), torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    small = F.interpolate(given, (16, 16), mode="bicubic")
    p_x = (1 + radial_power(small) * torch.arange(1, 17)).log()
    p_z = (1 + radial_power(latents)).log()
    p_x, p_z = p_x / p_x.sum(1, keepdim=True), p_z / p_z.sum(1, keepdim=True)
    expected = (p_x * (p_x / p_z).log()).sum(1).mean()
    assert divergence(latents, given, blur=0.0) == pytest.approx(float(expected), rel=1e-4)


def test_channels_may_change_places_and_signs_and_have_any_mean():
    given, latents = images(2, 32), torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    value = float(divergence(latents, given))
    assert float(divergence(-latents[:, [2, 0, 3, 1]], given)) == pytest.approx(value, rel=1e-5)
    shift = torch.zeros(2, 4, 1, 1, requires_grad=True)
    divergence(latents + shift, given).backward()
    assert shift.grad.abs().max() < 1e-6


def test_the_scale_counts_unless_it_is_normalized():
    given, latents = images(2, 32), torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    latents = latents + 3 * F.interpolate(latents[..., :2, :2], (16, 16), mode="bilinear")
    raw, normalized = (
        [float(divergence(scale * latents, given, normalize=normalize)) for scale in (1, 10)]
        for normalize in (False, True)
    )
    assert raw[0] != pytest.approx(raw[1], rel=0.1)
    assert normalized[0] == pytest.approx(normalized[1], rel=1e-3)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_small_latents_have_finite_gradients(side):
    latents = torch.randn(2, 4, side, side, requires_grad=True)
    divergence(latents, images(2, 4 * side)).backward()
    assert latents.grad.isfinite().all()


def test_a_blur_keeps_means_and_constants():
    assert torch.equal(blurred(images(), 0.0), images())
    torch.testing.assert_close(blurred(torch.ones(1, 3, 9, 9), 1.2), torch.ones(1, 3, 9, 9))
    impulse = torch.zeros(1, 3, 9, 9)
    impulse[..., 4, 4] = 1
    ratio = blurred(impulse, 1.2)[0, 0, 4, 5] / blurred(impulse, 1.2)[0, 0, 4, 4]
    assert ratio == pytest.approx(math.exp(-1 / (2 * 1.2**2)), rel=1e-4)


@pytest.mark.parametrize(("removed", "zeroed"), [(0, 0), (8, 36), (10, 49), (12, 58)])
def test_as_many_coefficients_are_removed_as_published(removed, zeroed):
    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    passed = low_pass(x, removed)
    blocks = dct(passed.unflatten(-1, (3, 8)).unflatten(-3, (2, 8)).transpose(-3, -2))
    assert ((blocks.abs() < 1e-5).sum((-2, -1)) == zeroed).all()
    torch.testing.assert_close(low_pass(passed, removed), passed, rtol=0, atol=1e-5)
    torch.testing.assert_close(passed.mean((-2, -1)), x.mean((-2, -1)))


@pytest.mark.parametrize("side", [1, 3, 8, 11, 20])
def test_blocks_at_the_edge_are_shorter(side):
    x = torch.randn(1, 2, side, 8, generator=torch.Generator().manual_seed(0))
    passed = low_pass(x, 10)
    assert passed.shape == x.shape
    whole = side - side % 8
    torch.testing.assert_close(passed[..., :whole, :], low_pass(x[..., :whole, :], 10))
    torch.testing.assert_close(low_pass(torch.ones_like(x), 12), torch.ones_like(x))


def test_a_step_draws_what_latent_and_image_lose():
    regularizer = DecodingSpectrumMatching()
    drawn = [regularizer.draw(key(step)).removed for step in range(800)]
    for removed in (0, 8, 10, 12):
        assert drawn.count(removed) / 800 == pytest.approx(0.25, abs=0.06)
    plain = DecodingSpectrumMatching((0,)).draw(key())
    assert torch.equal(plain.on_latents(images()), images())
    assert torch.equal(plain.on_target(images()), images())
    action = DecodingSpectrumMatching((10,)).draw(key())
    assert torch.equal(action.on_target(images()), low_pass(images(), 10))
    assert torch.equal(action.on_latents(images()), low_pass(images(), 10))
    with pytest.raises(ValueError, match="whole numbers in 0"):
        DecodingSpectrumMatching((0, 15))


def test_shares_of_nothing_are_0():
    assert torch.equal(shares(torch.zeros(2, 16)), torch.zeros(2, 16))

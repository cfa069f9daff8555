"""Fractional shifts: whole ones, their sum, and an autoencoder that shifts with its images."""

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from eqvae.autoencoders import Decoded, load_autoencoder
from eqvae.regularizers import FractionalShift, Pass, Reconstruction
from eqvae.regularizers.shift import ShiftError, fractional_shift, masked_square, stayed_inside
from tests.eqvae.regularizers.registry import CONFIGS, acted_out, key
from tests.eqvae.test_objective import images


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def without_nyquist(x: torch.Tensor) -> torch.Tensor:
    """Even sides without their highest frequency."""
    spectrum = torch.fft.fft2(x)
    spectrum[..., x.shape[-2] // 2, :] = 0
    spectrum[..., :, x.shape[-1] // 2] = 0
    return torch.fft.ifft2(spectrum).real


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (5, 9)])
@pytest.mark.parametrize("shift", [(0, 0), (1, -2), (3, 4)])
def test_whole_shifts_are_rolls(size, shift):
    x = noise(2, 3, *size)
    torch.testing.assert_close(fractional_shift(x, shift), x.roll(shift, (-2, -1)), rtol=0, atol=1e-5)


def test_shifts_add_up_and_keep_the_norm():
    x = without_nyquist(noise(2, 3, 8, 8))
    twice = fractional_shift(fractional_shift(x, (0.3, -1.2)), (0.45, 0.75))
    torch.testing.assert_close(twice, fractional_shift(x, (0.75, -0.45)), rtol=0, atol=1e-5)
    assert twice.norm() == pytest.approx(float(x.norm()), rel=1e-5)
    with_it = fractional_shift(fractional_shift(noise(2, 3, 8, 8), (0.5, 0.0)), (-0.5, 0.0))
    assert (with_it - noise(2, 3, 8, 8)).abs().max() > 0.1


def test_a_wave_moves_by_the_fraction():
    place = torch.arange(16.0)
    wave, moved = (torch.cos(2 * torch.pi * 3 * (place - by) / 16).expand(1, 1, 16, 16) for by in (0.0, 0.37))
    torch.testing.assert_close(fractional_shift(wave, (0.0, 0.37)), moved, rtol=0, atol=1e-5)
    torch.testing.assert_close(fractional_shift(wave.mT, (0.37, 0.0)), moved.mT, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shift", "rows"), [(0, 8), (2, 6), (-3, 5), (0.5, 7), (-1.25, 6), (7.5, 0)])
def test_what_came_around_the_edge_does_not_count(shift, rows):
    mask = stayed_inside((8, 8), (shift, 0.0), torch.zeros(1))
    assert mask.sum() == rows * 8
    assert masked_square(torch.ones(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), (shift, 0.0)) == (1 if rows else 0)


class Circular:
    """Convolutions around the edges, every f-th pixel; decoded by repetition and the convolution again."""

    posterior_factor = 4

    def __init__(self):
        self.kernel = noise(3, 3, 5, 5) / 5

    def _mixed(self, x):
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="circular"), self.kernel)

    def posterior(self, images):
        return SimpleNamespace(mean=self._mixed(images)[..., :: self.posterior_factor, :: self.posterior_factor])

    def transformed_decode(self, latents):
        return Decoded(self._mixed(F.interpolate(latents, scale_factor=self.posterior_factor)))


def errors(shares: tuple[float, float], largest: float = 0.75) -> list[float]:
    autoencoder, given = Circular(), images(2, 32)
    posterior = autoencoder.posterior(given)
    decoded = autoencoder.transformed_decode(posterior.mean).images
    result = Reconstruction(decoded, given, posterior.mean, posterior.mean, posterior, None, given)
    terms = ShiftError(shares, largest, 1.0).terms(Pass(autoencoder, result, None))
    return [float(term.value) for term in terms]


@pytest.mark.parametrize("pixels", [(0, 0), (4, -8), (12, 8)])
def test_an_autoencoder_without_edges_shifts_by_whole_latent_pixels(pixels):
    assert max(errors(tuple(each / 12 for each in pixels))) < 1e-8


def test_strides_alias_fractions():
    assert min(errors((2 / 12, 3 / 12))) > 1e-2


def test_gradients_stop_at_the_targets():
    autoencoder = load_autoencoder(CONFIGS["kl"])
    (encoder, decoder), parts = (FractionalShift().draw(key()), {}), autoencoder.model
    _, terms = acted_out(encoder, autoencoder)
    for name, other in (("shift_encoder", parts.decoder), ("shift_decoder", parts.encoder)):
        autoencoder.zero_grad()
        terms[name].value.backward(retain_graph=True)
        assert not any(parameter.grad is not None and parameter.grad.any() for parameter in other.parameters()), name
    assert parts.decoder.conv_out.weight.grad.abs().sum() > 0
    assert decoder == {}


def test_shifts_are_whole_pixels_up_to_the_largest():
    regularizer = FractionalShift()
    pixels = [regularizer.draw(key(step))._pixels(images()) for step in range(2000)]
    flat = list(itertools.chain(*pixels))
    assert (min(flat), max(flat)) == (-12, 12)
    assert {type(each) for each in flat} == {int}
    assert sum(flat) / len(flat) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("largest", [0, 1.5])
def test_larger_shifts_are_refused(largest):
    with pytest.raises(ValueError, match=r"largest must lie in \(0, 1\]"):
        FractionalShift(largest=largest)

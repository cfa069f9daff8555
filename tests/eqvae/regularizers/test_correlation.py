"""Local correlation: constant windows, white noise, and the mean of six products."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from eqvae.autoencoders import load_autoencoder
from eqvae.regularizers import LocalCorrelation, Pass, Reconstruction
from eqvae.regularizers.correlation import local_correlation
from tests.eqvae.regularizers.registry import CONFIGS, key


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def missing(latents: torch.Tensor, **options) -> float:
    posterior = type("Means", (), {"mean": latents})
    result = Reconstruction(latents, latents, latents, latents, posterior, None, latents)
    term, correlation = LocalCorrelation(**options).draw(key()).terms(Pass(None, result, None))
    assert (term.weight, term.adaptive, correlation.weight) == (0.002, True, None)
    return float(term.value)


def test_windows_of_one_value_correlate_fully():
    constant = F.interpolate(noise(4, 8, 5, 5), scale_factor=2)
    assert local_correlation(constant).item() == pytest.approx(1, abs=1e-5)
    assert missing(constant) == 0


def test_white_noise_does_not_correlate():
    # 6 x 64 x 64 products of 16 channels, each of variance 1 / 15: 0.002.
    latents = noise(64, 16, 16, 16)
    assert local_correlation(latents).item() == pytest.approx(0, abs=0.01)
    assert missing(latents) == pytest.approx(0.75, abs=0.01)
    assert missing(latents, threshold=0.6) == pytest.approx(0.6, abs=0.01)


def test_it_is_the_mean_of_the_six_products():
    latents = noise(2, 5, 4, 6)
    vectors = F.normalize(latents - latents.mean(1, keepdim=True), dim=1)
    values = []
    for y, x in itertools.product(range(0, 4, 2), range(0, 6, 2)):
        window = [vectors[:, :, y + dy, x + dx] for dy in (0, 1) for dx in (0, 1)]
        values += [(a * b).sum(1) for a, b in itertools.combinations(window, 2)]
    torch.testing.assert_close(local_correlation(latents), torch.stack(values).mean())
    odd = F.pad(latents, (0, 1, 0, 1), value=7.0)
    torch.testing.assert_close(local_correlation(odd), local_correlation(latents))


def test_scale_and_mean_of_a_channel_do_not_count():
    latents = noise(8, 4, 8, 8)
    changed = latents * torch.tensor([0.1, 1.0, 5.0, 20.0])[:, None, None] + torch.arange(4.0)[:, None, None]
    assert missing(changed) == pytest.approx(missing(latents), abs=1e-4)


def test_a_single_row_has_no_window():
    latents = noise(2, 4, 1, 8).requires_grad_()
    value = local_correlation(latents)
    value.backward()
    assert value == 1
    assert (latents.grad == 0).all()


def test_one_channel_is_refused():
    autoencoder = load_autoencoder(CONFIGS["kl"] | {"latent_channels": 1})
    with pytest.raises(ValueError, match="latents of one channel have none to compare"):
        LocalCorrelation().prepare(autoencoder)

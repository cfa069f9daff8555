"""The KL divergence, for which `kl_weight` suffices: closed forms, and what a strong one makes of latents."""

import math

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from eqvae.autoencoders.latent_losses import kl_terms
from eqvae.module import AutoencoderModule
from tests.eqvae.regularizers.registry import CONFIGS
from tests.eqvae.test_objective import PIXELS, fit, images


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 1.0), (0.0, 0.3), (-0.7, 2.0)])
def test_it_is_that_of_two_normal_distributions(mean, std):
    shape = (3, 4, 5, 6)
    moments = torch.cat((torch.full(shape, mean), torch.full(shape, 2 * math.log(std))), dim=1)
    (term,) = kl_terms(1e-3, DiagonalGaussianDistribution(moments), None)
    assert term.value.item() == pytest.approx(
        4 * 5 * 6 * (mean**2 + std**2 - 1 - 2 * math.log(std)) / 2, rel=1e-5, abs=1e-5
    )
    assert term.weight == 1e-3


def test_of_16_bits_it_is_computed_in_float32():
    """Near a standard normal bfloat16 would round variance, logarithm and their difference, and be negative."""
    shape = (2, 4, 5, 6)
    moments = torch.cat((torch.full(shape, 0.01), torch.full(shape, 0.03)), dim=1).bfloat16().requires_grad_()
    (term,) = kl_terms(1.0, DiagonalGaussianDistribution(moments), None)
    (exact,) = kl_terms(1.0, DiagonalGaussianDistribution(moments.detach().double()), None)
    assert term.value.dtype == torch.float32
    assert term.value.item() == pytest.approx(exact.value.item(), rel=1e-3)
    term.value.backward()
    assert (moments.grad > 0).all()


def test_a_strong_one_is_refused_where_the_encoder_is_frozen():
    options = {"trainable": "decoder", "kl_weight": 1e-3}
    with pytest.raises(ValueError, match=r"^kl_weight 0\.001 pulls at the encoder alone: set trainable to all"):
        AutoencoderModule(CONFIGS["kl"], None, PIXELS, **options)


def test_a_strong_one_takes_the_images_out_of_latents():
    def spread(weight: float) -> float:
        """Of posterior means over their deviations, between images."""
        module = AutoencoderModule(CONFIGS["kl"], None, PIXELS, learning_rate=1e-2, kl_weight=weight)
        fit(module, steps=30)
        posterior = module.autoencoder.posterior(images())
        return float((posterior.mean.std(0) / posterior.std.mean(0)).mean())

    assert spread(1e3) < 0.3 * spread(1e-6)

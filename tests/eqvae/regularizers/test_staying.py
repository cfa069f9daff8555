"""Staying close to the start: 0 at first, then the mean square of how far latents moved."""

import copy

import pytest
import torch

from eqvae.module import AutoencoderModule
from eqvae.regularizers import StayClose
from tests.eqvae.regularizers.registry import CONFIGS, METHODS, acted_out, key, prepared
from tests.eqvae.test_objective import PIXELS, fit, images

ROUNDING = 1e-6  # of float32 sums, relative


@pytest.mark.parametrize("config", CONFIGS)
def test_nothing_has_moved_at_first(config):
    regularizer, autoencoder = prepared(METHODS["stay_close"], config)
    result, terms = acted_out(regularizer.draw(key()), autoencoder)
    latents = result.posterior.mean.square().mean()
    assert terms["stay_close"].value <= ROUNDING**2 * latents  # a pass with gradients may take other kernels


def test_it_is_the_mean_square_of_the_distance():
    regularizer, autoencoder = prepared(METHODS["stay_close"])
    with torch.no_grad():
        autoencoder.model.quant_conv.bias[:4] += torch.tensor([1.0, 0.0, 2.0, 0.0])
    _, terms = acted_out(regularizer.draw(key()), autoencoder)
    assert terms["stay_close"].value.item() == pytest.approx((1 + 4) / 4, rel=1e-5)


def test_the_start_takes_no_part_in_training_or_checkpoints():
    module = AutoencoderModule(CONFIGS["kl"], None, PIXELS, learning_rate=1e-2, regularizers=[StayClose()])
    (regularizer,) = module.regularizers
    before = regularizer.start.on(torch.device("cpu")).fingerprint()
    fit(module, steps=2)
    assert before == regularizer.start.on(torch.device("cpu")).fingerprint() != module.autoencoder.fingerprint()
    assert not list(regularizer.parameters())
    assert not [name for name in module.state_dict() if name.startswith("regularizers")]
    assert copy.deepcopy(regularizer).start is regularizer.start  # of averaged weights


def test_a_large_weight_holds_latents():
    def moved(weight: float) -> float:
        module = AutoencoderModule(CONFIGS["kl"], None, PIXELS, learning_rate=1e-3, regularizers=[StayClose(weight)])
        start = module.autoencoder.posterior(images()).mean.detach()
        fit(module, steps=10)
        return float((module.autoencoder.posterior(images()).mean.detach() - start).square().mean())

    assert moved(1e6) < 0.3 * moved(0.0)

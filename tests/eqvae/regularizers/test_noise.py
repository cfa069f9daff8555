"""Noise on latents: its size against closed forms, whose it is, and decoders that are trained alone."""

import pytest
import torch

from eqvae.module import AutoencoderModule
from eqvae.regularizers import LatentNoise, NoisyDecoding, StepKey
from eqvae.regularizers.measuring import channel_statistics
from tests.eqvae.regularizers.registry import CONFIGS, key
from tests.eqvae.test_objective import PIXELS, fit

MANY = 256


def latents(count: int = MANY) -> torch.Tensor:
    """Channels of other means and deviations."""
    normal = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return normal * torch.tensor([0.5, 1.0, 4.0])[:, None, None] + torch.tensor([0.0, -2.0, 1.0])[:, None, None]


def test_statistics_are_those_of_channels():
    mean, std = channel_statistics(latents())
    torch.testing.assert_close(mean.flatten(), latents().mean((0, 2, 3)))
    torch.testing.assert_close(std.flatten(), latents().std((0, 2, 3), correction=0))
    assert channel_statistics(torch.ones(2, 3, 4, 4)).std.max() <= 1e-3


def noise_in_stds(regularizer: LatentNoise, given: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Root mean square [B] of the noise of each image, in the std of each channel, over its share."""
    noisy = regularizer.draw(key(count=len(given))).on_latents(given)
    mean, std = channel_statistics(given)
    expected = given if regularizer.mix == "add" else mean + (1 - share) * (given - mean)
    return ((noisy - expected) / std / share).square().mean((1, 2, 3)).sqrt()


@pytest.mark.parametrize(("mix", "strength"), [("interpolate", 3.0), ("add", 3.0), ("add", 0.5)])
def test_noise_has_the_size_that_each_image_draws(mix, strength):
    share = key(count=MANY).uniform("noise share", (1, 1, 1))
    sizes = noise_in_stds(LatentNoise(strength, mix), latents(), share)
    # Of 192 values each: relative error 1 / sqrt(2 x 192) = 5 %, of all 49,152 0.3 %.
    torch.testing.assert_close(sizes, torch.full((MANY,), strength), rtol=0.25, atol=0)
    assert sizes.square().mean().sqrt().item() == pytest.approx(strength, rel=0.02)
    assert share.mean().item() == pytest.approx(0.5, abs=0.06)
    assert share.max() > 0.95
    assert share.min() < 0.05


def test_without_strength_latents_still_shrink_to_their_mean():
    share = key(count=MANY).uniform("noise share", (1, 1, 1))
    mean, _ = channel_statistics(latents())
    noisy = LatentNoise(0.0).draw(key(count=MANY)).on_latents(latents())
    torch.testing.assert_close(noisy, mean + (1 - share) * (latents() - mean), rtol=0, atol=1e-5)
    added = LatentNoise(0.0, "add").draw(key(count=MANY)).on_latents(latents())
    assert torch.equal(added, latents())


def test_latents_do_not_escape_by_growing():
    noisy, larger = (LatentNoise().draw(key()).on_latents(scale * latents(4)) / scale for scale in (1, 100))
    torch.testing.assert_close(noisy, larger, rtol=0, atol=1e-4)


def test_an_image_has_its_noise_in_any_batch():
    whole, critic = (
        StepKey(0, 5, (3, 3), torch.arange(4), stream=name).normal("noise", (2, 3, 3)) for name in ("", "critic")
    )
    parts = [StepKey(0, 5, (3, 3), keys).normal("noise", (2, 3, 3)) for keys in torch.arange(4).split(1)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, critic)


def test_noisy_decoding_is_additive_noise_up_to_tau():
    share = key(count=MANY).uniform("noisy_decoding share", (1, 1, 1))
    sizes = noise_in_stds(NoisyDecoding(), latents(), share)
    assert sizes.square().mean().sqrt().item() == pytest.approx(0.8, rel=0.02)


def test_noisy_decoding_leaves_latents_bit_for_bit():
    given = torch.rand(2, 3, 32, 32) * 2 - 1
    module = AutoencoderModule(
        CONFIGS["kl"], None, PIXELS, learning_rate=1e-2, trainable="decoder", regularizers=[NoisyDecoding()]
    )
    with torch.no_grad():
        before, decoded = module.autoencoder.posterior(given).mean, module.autoencoder.decode(torch.ones(1, 4, 8, 8))
        fit(module, steps=2)
        assert torch.equal(module.autoencoder.posterior(given).mean, before)
        assert not torch.equal(module.autoencoder.decode(torch.ones(1, 4, 8, 8)), decoded)


def test_no_noise_is_decoder_only_training():
    plain, zero = (
        fit(AutoencoderModule(CONFIGS["kl"], None, PIXELS, trainable="decoder", regularizers=regularizers), steps=2)
        for regularizers in ([], [NoisyDecoding(0.0)])
    )
    assert plain.autoencoder.fingerprint() == zero.autoencoder.fingerprint()


def test_an_encoder_that_trains_is_refused():
    with pytest.raises(ValueError, match=r"^regularizers: noisy_decoding trains the decoder alone: set trainable"):
        AutoencoderModule(CONFIGS["kl"], None, PIXELS, regularizers=[NoisyDecoding()])

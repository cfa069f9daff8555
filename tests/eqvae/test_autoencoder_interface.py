"""What every family of autoencoders answers alike, and who relies on it."""

import copy

import pytest
import torch

from eqvae.autoencoders import Autoencoder, CodebookLoss, load_autoencoder
from eqvae.equivariance import SpatialTransform, equivariance_errors
from eqvae.latents import create_cache_writer, open_cache
from tests.eqvae.test_latent_cache import data_module
from tests.eqvae.test_objective import TINY_VQ, images
from tests.tiny import TINY_AUTOENCODER

FAMILIES = {"kl": TINY_AUTOENCODER, "vq": TINY_VQ}
TURN = SpatialTransform((0.5, 0.5), 1)


@pytest.fixture(params=FAMILIES)
def autoencoder(request) -> Autoencoder:
    return load_autoencoder(FAMILIES[request.param]).freeze()


def test_shapes_are_those_that_are_announced(autoencoder):
    batch = images()
    shape = (4, *autoencoder.latent_shape(batch))
    posterior = autoencoder.posterior(batch)
    assert posterior.mean.shape == posterior.std.shape == shape
    mean, std = autoencoder.latent_moments(batch)
    assert mean.shape == std.shape == shape
    assert autoencoder.decode(mean).shape == batch.shape
    assert {len(rows) for rows in autoencoder.cached_rows(batch).values()} == {4}


def test_decoding_the_posterior_is_decoding_raw_latents(autoencoder):
    mean, _ = autoencoder.latent_moments(images())
    with torch.no_grad():
        exact = autoencoder.transformed_decode(autoencoder.posterior(images()).mean).images
    assert torch.equal(exact, autoencoder.decode(mean))


def test_decoding_is_the_same_with_gradients(autoencoder):
    exact = copy.deepcopy(autoencoder).double()
    mean = exact.posterior(images().double()).mean.detach().requires_grad_()
    decoded = exact.transformed_decode(mean).images
    with torch.no_grad():
        expected = exact.transformed_decode(mean).images
    # A quantizer is passed by features + (latents - features): two roundings of 1e-16 before ten layers.
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-12)


def test_the_gradient_of_a_transformed_decode_reaches_the_latents(autoencoder):
    latents = autoencoder.posterior(images()).mean.detach().requires_grad_()
    decoded = autoencoder.transformed_decode(latents, TURN).images
    assert decoded.shape[-2:] == TURN.output_size(32, 32)
    decoded.sum().backward()
    assert latents.grad.abs().sum() > 0


def test_samples_are_the_noise_they_are_given(autoencoder):
    posterior, keys, shape = autoencoder.posterior(images()), torch.arange(4), autoencoder.latent_shape(images())
    noise = autoencoder.posterior_noise(keys, shape, seed=1, stream="posterior")
    latents = autoencoder.sample(posterior, noise)
    spread = torch.zeros(()) if noise is None else posterior.std * noise
    assert torch.equal(latents, posterior.mean + spread)
    assert torch.equal(autoencoder.sample(posterior, None), posterior.mean)
    assert (noise is None) == bool((posterior.std == 0).all())


def test_its_own_loss_has_a_gradient(autoencoder):
    autoencoder.requires_grad_(True)
    posterior = autoencoder.posterior(images())
    codes = autoencoder.transformed_decode(posterior.mean).codes
    terms = autoencoder.latent_loss(0.5, None)(posterior, codes)
    (minimized,) = [term for term in terms if term.weight is not None]
    minimized.value.backward()
    assert autoencoder.model.encoder.conv_in.weight.grad.abs().sum() > 0


def test_a_codebook_loss_needs_a_codebook(autoencoder):
    if autoencoder.num_codes:
        (term, *_) = autoencoder.latent_loss(0.0, CodebookLoss(weight=7.0))(
            autoencoder.posterior(images()), autoencoder.transformed_decode(autoencoder.posterior(images()).mean).codes
        )
        assert term.weight == 7.0
        return
    with pytest.raises(ValueError, match="no codebook: set codebook to null"):
        autoencoder.latent_loss(0.0, CodebookLoss())


def test_errors_and_caches_need_not_ask_the_family(autoencoder, tmp_path):
    errors = equivariance_errors(autoencoder, images())
    assert {tuple(value.shape) for each in errors.values() for value in each.values()} == {(4,)}
    data = data_module()
    writer = create_cache_writer(tmp_path, autoencoder, data.description())
    for batch in data.predict_dataloader():
        writer.add(batch)
    writer.finish()
    assert open_cache(tmp_path).kind == autoencoder.kind


def test_an_incomplete_family_is_refused():
    class Half(Autoencoder):
        def encode(self, images):
            return images

    with pytest.raises(TypeError, match="abstract"):
        Half(None)

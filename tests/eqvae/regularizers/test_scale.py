"""Scale equivariance: closed forms on an autoencoder that pools and repeats."""

import pytest
import torch
import torch.nn.functional as F

from eqvae.autoencoders import Decoded
from eqvae.autoencoders.latent_losses import no_terms
from eqvae.losses import ReconstructionLoss
from eqvae.module import AutoencoderModule
from eqvae.objective import AutoencoderObjective
from eqvae.regularizers import Pass, Reconstruction, Regularizers, ScaleEquivariance
from eqvae.regularizers.scale import shrink
from tests.eqvae.regularizers.registry import CONFIGS, METHODS, absolute, acted_out, key, prepared
from tests.eqvae.test_objective import PIXELS, fit, images


class Pooling:
    """Means of f x f pixels, and their repetition: scale equivariant on images that are constant in 2 f x 2 f."""

    factor = 4

    def encode(self, images):
        return F.avg_pool2d(images, self.factor)

    def transformed_decode(self, latents):
        return Decoded(F.interpolate(latents, scale_factor=self.factor))


def term(images, factors=(2,), **options):
    autoencoder = Pooling()
    latents = autoencoder.encode(images)
    decoded = autoencoder.transformed_decode(latents).images
    result = Reconstruction(decoded, images, latents, latents, None, None, images)
    action = ScaleEquivariance(factors, **options).draw(key(size=tuple(latents.shape[-2:])))
    (found,) = action.terms(Pass(autoencoder, result, absolute))
    return found


@pytest.mark.parametrize("factor", [2, 4])
def test_blocks_are_scale_equivariant_and_noise_is_not(factor):
    side = Pooling.factor * factor
    blocks = F.interpolate(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), scale_factor=side)
    assert term(blocks, (factor,)).value < 1e-6
    assert term(images(2, 64), (factor,)).value > 0.1


def test_two_bilinear_halvings_are_means_of_blocks():
    x = images(2, 32)
    halved = F.interpolate(x, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(shrink(x, (16, 16)), halved, rtol=0, atol=1e-6)
    quartered = F.interpolate(halved, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(shrink(x, (8, 8)), quartered, rtol=0, atol=1e-6)
    in_one_step = F.interpolate(x, scale_factor=0.25, mode="bilinear")
    assert (shrink(x, (8, 8)) - in_one_step).abs().max() > 0.5  # which reads 4 of 16 pixels


def test_the_target_is_the_image_or_the_reconstruction():
    action = ScaleEquivariance((2,), target="reconstruction")
    _, autoencoder = prepared(METHODS["scale_equivariance"])
    result, terms = acted_out(action.draw(key()), autoencoder)
    smaller = autoencoder.transformed_decode(F.avg_pool2d(result.latents, 2)).images
    expected = absolute(smaller, F.avg_pool2d(autoencoder.decode(result.latents), 2))
    torch.testing.assert_close(terms["scale_equivariance"].value, expected)
    assert terms["scale_equivariance"].weight == 0.25
    _, terms = acted_out(ScaleEquivariance((2,)).draw(key()), autoencoder)
    expected = absolute(smaller, F.avg_pool2d(images(), 2))
    torch.testing.assert_close(terms["scale_equivariance"].value, expected)


@pytest.mark.parametrize("perceptual", ["none", "efficientnet_lite0"])
def test_the_whole_loss_reaches_a_target_that_is_a_reconstruction(perceptual):
    """T D(z) is made of z, too, and the distance is the same of both."""
    distance = AutoencoderObjective(
        ReconstructionLoss(perceptual=perceptual), no_terms, Regularizers([], None)
    ).distance
    gradients = []
    for both in (False, True):
        decoded, whole = images(2, 32).requires_grad_(), images(2, 64).requires_grad_()
        target = F.avg_pool2d(whole, 2)
        target.retain_grad()
        distance(decoded, target if both else target.detach()).backward()
        gradients.append((decoded.grad, target.grad))
    (alone, _), (own, of_target) = gradients
    torch.testing.assert_close(own, alone)
    swapped, fixed = F.avg_pool2d(images(2, 64), 2).requires_grad_(), images(2, 32)
    distance(swapped, fixed).backward()
    torch.testing.assert_close(of_target, swapped.grad, rtol=1e-3, atol=1e-5)


def test_factors_are_drawn_alike_and_none_leaves_less_than_is_told():
    regularizer = ScaleEquivariance((2, 4))
    factors = [regularizer.draw(key(step)).factor for step in range(400)]
    assert sum(factor == 2 for factor in factors) / 400 == pytest.approx(0.5, abs=0.1)
    assert regularizer.smallest_side((8, 12)) == 2
    _, autoencoder = prepared(METHODS["scale_equivariance"])
    shapes = []
    autoencoder.model.decoder.register_forward_hook(lambda module, given, made: shapes.append(given[0].shape[-1]))
    acted_out(ScaleEquivariance((4,)).draw(key(size=(16, 16))), autoencoder, images(2, 8))  # shrunken by others to 4
    assert shapes == [4, 4]


def test_weight_0_is_the_ordinary_loss():
    plain, zero = (
        fit(AutoencoderModule(CONFIGS["kl"], None, PIXELS, learning_rate=1e-3, regularizers=regularizers), steps=2)
        for regularizers in ([], [ScaleEquivariance(weight=0.0)])
    )
    assert plain.autoencoder.fingerprint() == zero.autoencoder.fingerprint()


@pytest.mark.parametrize("factors", [(), (1, 2)])
def test_factors_that_do_not_shrink_are_refused(factors):
    with pytest.raises(ValueError, match="do not shrink"):
        ScaleEquivariance(factors)

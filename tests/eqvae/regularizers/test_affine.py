"""Affine maps against turns, identities and each other; blending against a linear autoencoder."""

import math

import pytest
import torch
import torch.nn.functional as F

from eqvae.autoencoders import Decoded
from eqvae.regularizers import AffineTransforms
from eqvae.regularizers.affine import Affine, AffineBlended
from tests.eqvae.regularizers.registry import key
from tests.eqvae.test_objective import images
from tests.eqvae.tiny import smooth_images


@pytest.mark.parametrize("turns", [0, 1, 2, 3, -1])
def test_quarter_turns_are_those_of_pixels(turns):
    turned = Affine(angle=90.0 * turns)(images())
    torch.testing.assert_close(turned, images().rot90(turns, (-2, -1)), rtol=0, atol=1e-5)


def test_a_half_turn_of_a_wide_image():
    wide = images()[..., :16, :]
    torch.testing.assert_close(Affine(angle=180.0)(wide), wide.rot90(2, (-2, -1)), rtol=0, atol=1e-5)


def test_pixels_stay_square_where_the_image_is_not():
    """A quarter turn of a wide image about its centre: of a square in its middle that is a quarter turn."""
    wide = images()[..., :16, :]
    middle = slice(8, 24)
    turned = Affine(angle=90.0)(wide)[..., middle]
    torch.testing.assert_close(turned, wide[..., middle].rot90(1, (-2, -1)), rtol=0, atol=1e-5)


def test_shifts_are_in_sides_and_scales_about_the_centre():
    x = images()
    moved = Affine(shift=(0.25, 0.0))(x)
    torch.testing.assert_close(moved[..., :24], x[..., 8:], rtol=0, atol=1e-4)
    assert torch.allclose(moved[..., 24:], x[..., 24:].flip(-1), atol=1e-4)  # mirrored at the edge
    wider = Affine(scale=2.0)(x)  # reads twice as far: the image at half its size in the middle
    small = F.interpolate(x, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(wider[..., 8:24, 8:24], small, rtol=0, atol=1e-4)


def test_shears_are_entries_of_the_matrix():
    matrix = Affine(shear=(0.1, 0.05)).matrix(8, 8)
    torch.testing.assert_close(matrix, torch.tensor([[1, 0.1, 0], [0.05, 1, 0]]))


def test_an_image_and_its_smaller_copy_are_mapped_alike():
    affine = Affine(30.0, 0.9, (0.05, -0.02), (0.05, 0.1))
    large, small = affine(smooth_images(64)), affine(smooth_images(16))
    torch.testing.assert_close(F.avg_pool2d(large, 4)[..., 1:-1, 1:-1], small[..., 1:-1, 1:-1], rtol=0, atol=0.1)


class Repeating:
    """A linear autoencoder: latents are means of 2 x 2 pixels."""

    def transformed_decode(self, latents):
        return Decoded(F.interpolate(latents, scale_factor=2))


def test_a_linear_autoencoder_blends_exactly():
    latents = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x = Repeating().transformed_decode(latents).images
    action = AffineBlended(Affine(), 0.3, torch.tensor([2, 0, 3, 1]))
    decoded = Repeating().transformed_decode(action.on_latents(latents)).images
    torch.testing.assert_close(decoded, action.on_target(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(action.on_target(x)[0], 0.7 * x[0] + 0.3 * x[2], rtol=0, atol=1e-5)


def test_neither_map_nor_blend_is_the_image():
    action = AffineBlended(Affine(), 0.0, torch.arange(4))
    torch.testing.assert_close(action.on_target(images()), images(), rtol=0, atol=1e-5)


def test_draws_are_those_of_the_source():
    regularizer, steps = AffineTransforms(), 2000
    drawn = [regularizer.draw(key(step)) for step in range(steps)]
    active = [action for action in drawn if isinstance(action, AffineBlended)]
    assert len(active) / steps == pytest.approx(0.5, abs=0.05)
    angles, scales, shares = ([get(action) for action in active] for get in (angle_of, scale_of, share_of))
    assert (min(angles), max(angles)) == pytest.approx((-180, 180), abs=4)
    assert (min(scales), max(scales)) == pytest.approx((0.8, 1.2), abs=0.01)
    assert (min(shares), max(shares)) == pytest.approx((0.1, 0.4), abs=0.01)
    assert max(abs(action.affine.shear[0]) for action in active) == pytest.approx(math.radians(10), rel=0.05)
    assert max(abs(action.affine.shear[1]) for action in active) == pytest.approx(math.radians(5), rel=0.05)
    assert max(abs(each) for action in active for each in action.affine.shift) == pytest.approx(0.1, rel=0.05)
    assert all(sorted(action.partners.tolist()) == [0, 1, 2, 3] for action in active)


def angle_of(action):
    return action.affine.angle


def scale_of(action):
    return action.affine.scale


def share_of(action):
    return action.share


def test_probability_0_is_the_ordinary_loss():
    action = AffineTransforms(probability=0.0).draw(key())
    assert action.on_latents(images()) is not None
    assert torch.equal(action.on_target(images()), images())
    assert AffineTransforms(1.0, largest_share=0.0).draw(key()).share == 0


@pytest.mark.parametrize("options", [{"probability": 1.5}, {"largest_share": -0.1}])
def test_impossible_shares_are_refused(options):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        AffineTransforms(**options)


@pytest.mark.parametrize("largest", [0.05, 0.1, 0.4])
def test_no_blend_takes_more_than_the_largest_share(largest):
    shares = [share_of(AffineTransforms(1.0, largest).draw(key(step))) for step in range(50)]
    assert min(0.1, largest) <= min(shares) <= max(shares) <= largest

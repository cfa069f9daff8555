"""Transformed latents against transformed images, where both are known."""

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from eqvae.autoencoders import Decoded, PointPosterior
from eqvae.data import to_uint8
from eqvae.equivariance import equivariance_errors
from tests.eqvae.tiny import smooth_images, tiny_autoencoder
from twostage.view.transforming import SharedTransform, common_scales, transform_image

SIDE = 16
TRANSFORMS = {
    "turned": SharedTransform(quarter_turns=1),
    "upside down": SharedTransform(quarter_turns=2),
    "half": SharedTransform(scale=Fraction(1, 2)),
    "shifted": SharedTransform(shift=(4, -8)),
    "all": SharedTransform((8, -8), Fraction(1, 2), 3),
}


class Blocks(torch.nn.Module):
    """Means of blocks and back again: commutes with turns and whole shifts, loses what varies within a block."""

    def __init__(self, factor: int = 4):
        super().__init__()
        self.posterior_factor, self.smallest_latent_side = factor, 1
        self.last_layer = torch.zeros(1)

    def posterior(self, images):
        return PointPosterior(F.avg_pool2d(images, self.posterior_factor))

    def transformed_decode(self, latents):
        return Decoded(F.interpolate(latents, scale_factor=self.posterior_factor, mode="nearest"))


def blocky(side: int = SIDE, block: int = 8) -> torch.Tensor:
    """[3, side, side] in [-1, 1], constant in blocks."""
    rows = torch.rand(3, side // block, side // block, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(rows[None], scale_factor=block, mode="nearest")[0]


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_an_equivariant_autoencoder_decodes_the_transformed_image(transform):
    shown, results = transform_image({"blocks": Blocks()}, blocky(), transform)
    assert torch.equal(shown, to_uint8(transform.on_images(blocky()[None]))[0])
    found = results["blocks"]
    assert found.decoded.shape == shown.shape
    assert int((found.decoded.int() - shown.int()).abs().max()) <= 1
    assert found.decoded_error < 1e-10
    assert found.latent_error < 1e-10
    assert torch.equal(found.transformed_latents, found.expected_latents)


def test_without_a_transform_what_is_left_is_the_error_of_reconstruction():
    image = smooth_images(SIDE)[0]
    autoencoders = {"tiny": tiny_autoencoder(), "blocks": Blocks(2)}
    shown, results = transform_image(autoencoders, image, SharedTransform())
    assert torch.equal(shown, to_uint8(image))
    for name, each in autoencoders.items():
        decoded = each.transformed_decode(each.posterior(image[None]).mean).images[0]
        assert results[name].decoded_error == pytest.approx(float(((decoded - image) ** 2).sum() / (image**2).sum()))
        assert torch.equal(results[name].decoded, to_uint8(decoded))
        assert results[name].latent_error == 0


@pytest.mark.parametrize(
    ("transform", "probe"),
    [
        (SharedTransform(quarter_turns=3), "rotation 270"),
        (SharedTransform(scale=Fraction(1, 2)), "scale 0.50"),
    ],
)
def test_errors_are_those_that_are_measured_elsewhere(transform, probe):
    tiny, image = tiny_autoencoder(), smooth_images(SIDE)[0]
    measured = equivariance_errors(tiny, image[None])
    _, results = transform_image({"tiny": tiny}, image, transform)
    assert results["tiny"].latent_error == pytest.approx(float(measured["latent"][probe]), rel=1e-5)
    assert results["tiny"].decoded_error == pytest.approx(float(measured["decoded"][probe]), rel=1e-5)
    assert results["tiny"].decoded_error > 1e-3, "random weights are not equivariant"


def test_a_turn_is_clockwise_and_half_a_scale_halves_the_sides():
    image = smooth_images(SIDE)[0]
    turned, _ = transform_image({}, image, SharedTransform(quarter_turns=1))
    assert torch.equal(turned, torch.rot90(to_uint8(image), -1, (1, 2)))
    _, results = transform_image({"tiny": tiny_autoencoder()}, image, SharedTransform(scale=Fraction(1, 2)))
    assert results["tiny"].decoded.shape == (3, SIDE // 2, SIDE // 2)
    assert results["tiny"].transformed_latents.shape == results["tiny"].expected_latents.shape == (3, 2, 2)


def test_a_shift_of_whole_latent_pixels_is_the_shifted_image():
    image = blocky(block=4)
    _, results = transform_image({"blocks": Blocks()}, image, SharedTransform(shift=(4, 8)))
    assert int((results["blocks"].decoded.int() - to_uint8(image.roll((4, 8), (1, 2))).int()).abs().max()) <= 1


def test_what_came_around_an_edge_is_not_counted():
    """Outside of it nothing differs; what is left is the part of the image that was there before."""
    transform = SharedTransform(shift=(4, 0))
    kept = transform.kept(torch.zeros(1, 3, SIDE, SIDE))
    assert kept.sum(1).tolist() == [0.0] * 4 + [float(SIDE)] * 12
    turned = SharedTransform((4, 0), Fraction(1, 2), 1).kept(torch.zeros(1, 3, SIDE, SIDE))
    assert turned.sum(0).tolist() == [8.0] * 6 + [0.0] * 2, "the top is on the right now"

    class Around(Blocks):
        def transformed_decode(self, latents):
            decoded = super().transformed_decode(latents).images.clone()
            decoded[..., :4, :] = 7
            return Decoded(decoded)

    _, results = transform_image({"a": Around()}, blocky(block=4), transform)
    assert results["a"].decoded_error < 1e-10


def test_nothing_left_to_count_is_no_error_of_zero():
    _, results = transform_image({"one latent": Blocks(SIDE)}, blocky(), SharedTransform(shift=(SIDE // 2, 0)))
    assert math.isnan(results["one latent"].latent_error)
    assert results["one latent"].decoded_error > 0


def test_common_scales_make_whole_latents_of_all_autoencoders():
    scales = common_scales([Blocks(4), Blocks(8)], 32)
    assert scales == [Fraction(count, 4) for count in range(1, 9)]
    for scale in scales:
        transform_image({"a": Blocks(4), "b": Blocks(8)}, blocky(32), SharedTransform(scale=scale))
    with pytest.raises(ValueError, match="no whole number"):
        transform_image({"b": Blocks(8)}, blocky(32), SharedTransform(scale=Fraction(3, 8)))


def test_scales_keep_latents_that_can_be_decoded():
    padded = Blocks(4)
    padded.smallest_latent_side = 2
    assert common_scales([padded], 16)[0] == Fraction(1, 2)
    with pytest.raises(ValueError, match="side 4 are too small for these autoencoders: make them larger"):
        common_scales([padded], 4)

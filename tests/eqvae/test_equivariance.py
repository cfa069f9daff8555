"""Transforms, draws, the pass that acts them out, and the measured errors."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eqvae.autoencoders.padding import set_padding_mode
from eqvae.equivariance import SpatialTransform, equivariance_errors, measured_transforms
from eqvae.regularizers import Draw, TransformDistribution, reconstruct
from tests.eqvae.tiny import MixingAutoencoder, smooth_images, tiny_autoencoder

SIDES, FACTORS = (4, 8, 16), (4, 8)
ALL_SIDES = range(2, 129)
NUM_DRAWS = 4000


def grid(side):
    return [Fraction(k, side) for k in range(math.ceil(side / 4), side)]


def within_five_sigma(count, total, probability):
    return abs(count - total * probability) <= 5 * math.sqrt(total * probability * (1 - probability))


@pytest.mark.parametrize(("first", "second"), itertools.product(range(-1, 5), repeat=2))
def test_turns_compose_and_invert_exactly(first, second):
    x = torch.randn(2, 3, 4, 6)
    one, two = SpatialTransform(quarter_turns=first), SpatialTransform(quarter_turns=second)
    assert torch.equal(one.then(two)(x), two(one(x)))
    assert torch.equal(one.inverse()(one(x)), x)
    assert one(x).shape[-2:] == one.output_size(4, 6)


def test_one_turn_is_clockwise():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert SpatialTransform(quarter_turns=1)(x)[0, 0].tolist() == [[3.0, 1.0], [4.0, 2.0]]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_scaling_and_turning_compose_in_either_order(turns, interpolation):
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    scale = SpatialTransform((0.5, 0.75), 0, interpolation)
    turn = SpatialTransform(quarter_turns=turns, interpolation=interpolation)
    # The same weights at mirrored positions of up to 32 pixels, rounded by 32 * 1e-16 there and here, times slopes of a
    # few units; in float32 the same are some 1e-5.
    torch.testing.assert_close(scale.then(turn)(x), turn(scale(x)), rtol=0, atol=1e-12)
    torch.testing.assert_close(turn.then(scale)(x), scale(turn(x)), rtol=0, atol=1e-12)


def test_two_scalings_compose_on_smooth_images():
    x = smooth_images(64)
    one, two = SpatialTransform((0.5, 0.75), 1), SpatialTransform((0.5, 0.25), 2)
    composed, chained = one.then(two)(x), two(one(x))
    assert composed.shape == chained.shape == (2, 3, *one.then(two).output_size(64, 64))
    # Linear interpolation over 1 / 32 of waves with curvature 10 errs by 10 / 32^2 / 8 = 1e-3, several times.
    torch.testing.assert_close(composed, chained, rtol=0, atol=2e-2)


@pytest.mark.parametrize("turns", range(4))
def test_scalings_invert_on_smooth_images(turns):
    x = smooth_images(64)
    transform = SpatialTransform((0.5, 0.75), turns)
    restored = transform.inverse()(transform(x))
    assert restored.shape == x.shape
    # At the border the outermost half pixel of the smaller image is repeated: 1 / 64 of a slope of 3.2.
    torch.testing.assert_close(restored, x, rtol=0, atol=5e-2)


@pytest.mark.parametrize("side", [4, 8, 16, 32])
def test_inverse_restores_the_size_of_every_scale(side):
    for (sy, sx), turns in itertools.product(itertools.product(grid(side), repeat=2), range(4)):
        transform = SpatialTransform((sy, sx), turns)
        assert transform.inverse().output_size(*transform.output_size(side, side)) == (side, side), transform


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("side", SIDES)
def test_decoded_size_is_the_transformed_images_size(side, factor):
    latents, images = torch.zeros(1, 1, side, side), torch.zeros(1, 1, side * factor, side * factor)
    for (sy, sx), turns in itertools.product(itertools.product(grid(side), repeat=2), range(4)):
        transform = SpatialTransform((sy, sx), turns)
        height, width = transform(latents).shape[-2:]
        assert transform(images).shape[-2:] == (factor * height, factor * width), transform
        assert transform.output_size(side, side) == (height, width), transform


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_fraction_makes_the_pixels_of_the_released_codes_float(interpolation):
    """Bit for bit, wherever the float makes the size at all; where it floors down the fraction is right."""
    floored = set()
    for side in ALL_SIDES:
        x = torch.randn(1, 1, side, 2)
        for k in range(math.ceil(side / 4), side):
            exact = SpatialTransform((Fraction(k, side), Fraction(1)), 0, interpolation)
            released = SpatialTransform((k / side, 1.0), 0, interpolation)
            assert exact(x).shape[-2] == exact.output_size(side, 2)[0] == k
            if released.output_size(side, 2)[0] == k:
                assert torch.equal(exact(x), released(x)), (side, k)
            else:
                floored.add(side)
    assert {22, 26, 44, 52, 76, 84, 88, 92, 100, 104} <= floored, "176 ... 832 pixels at f8"


def test_fractions_that_make_no_whole_pixels_are_refused():
    with pytest.raises(ValueError, match=r"^1/3 of 10 pixels is no whole number: use sides that it divides$"):
        SpatialTransform((Fraction(1, 3), Fraction(1, 2)))(torch.zeros(1, 1, 10, 10))


def latent_sizes():
    square = st.integers(ALL_SIDES.start, ALL_SIDES.stop - 1).map(lambda side: (side, side))
    return square | st.tuples(*[st.integers(ALL_SIDES.start, ALL_SIDES.stop - 1)] * 2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(latent_sizes(), st.sampled_from((4, 8, 16)), st.sampled_from(("isotropic", "anisotropic")), st.integers(0, 999))
def test_every_draw_has_whole_sizes_and_the_image_f_times_the_latents(size, factor, scale, step):
    """On meta tensors, which have sizes alone."""
    distribution = TransformDistribution(scale=scale, low_resolution_probability=1.0, flip=True)
    draw = distribution.draw(0, step, size)
    latents = torch.empty(1, 1, *size, device="meta")
    images = torch.empty(1, 3, factor * size[0], factor * size[1], device="meta")
    expected = draw.transform.output_size(*size)
    assert draw.transform(latents).shape[-2:] == expected
    assert draw.transform(images).shape[-2:] == (factor * expected[0], factor * expected[1])
    assert draw.transform.inverse().output_size(*expected) == size
    assert min(expected) >= distribution.smallest_side(size)
    height, width = expected if draw.transform.quarter_turns % 2 == 0 else expected[::-1]
    if scale == "isotropic" or draw.kind == "low_resolution":
        short, long = sorted(((height, size[0]), (width, size[1])), key=lambda pair: pair[1])
        assert abs(long[0] - long[1] * Fraction(*short)) <= Fraction(1, 2), "both axes by one factor"


def test_every_side_can_be_drawn_and_the_smallest_is_known():
    """All scales of all sides: what the distribution calls its smallest latent is one."""
    for side in ALL_SIDES:
        drawn = {SpatialTransform((s, s)).output_size(side, side)[0] for s in grid(side)}
        assert drawn == set(range(math.ceil(side / 4), side))
        for s, factor in itertools.product(grid(side), (4, 8, 16)):
            assert SpatialTransform((s, s)).output_size(factor * side, side) == (factor * s * side, s * side)
        assert TransformDistribution().smallest_side((side, 2 * side)) == min(drawn)
        unshrunk = TransformDistribution(scale="none", low_resolution_probability=0.0)
        assert unshrunk.smallest_side((side, 2 * side)) == side


@pytest.mark.parametrize("size", [(22, 22), (6, 10), (13, 7)])
def test_an_autoencoder_takes_every_draw(size):
    """Sides of 176 pixels at f8 crashed at a random step, and so did latents that are not square."""
    autoencoder = tiny_autoencoder(4)
    images = torch.rand(1, 3, 4 * size[0], 4 * size[1]) * 2 - 1
    distribution = TransformDistribution(low_resolution_probability=0.5)
    for step in range(60):
        draw = distribution.draw(0, step, size)
        result = reconstruct(autoencoder, images, draw, torch.randn(1, 4, *size))
        height, width = draw.transform.output_size(*size)
        assert result.images.shape == result.target.shape == (1, 3, 4 * height, 4 * width)


@pytest.mark.parametrize("factor", FACTORS)
def test_reconstruct_with_an_autoencoder(factor):
    autoencoder, side = tiny_autoencoder(factor), 4
    images, noise = smooth_images(side * factor), torch.randn(2, 4, side, side)
    draws = [Draw("plain", SpatialTransform()), Draw("low_resolution", SpatialTransform((0.75, 0.75)))]
    draws += [Draw("equivariance", SpatialTransform((a, b), k)) for a, b, k in ((0.25, 0.5, 1), (0.75, 0.75, 2))]
    encoded = autoencoder.encode(images)
    for draw in draws:
        result = reconstruct(autoencoder, images, draw, noise)
        assert result.images.shape == result.target.shape
        assert torch.equal(result.target, draw.transform(images))
        small = draw.kind == "low_resolution"
        assert result.posterior.mean.shape[-1] == (3 if small else side)
        if not small:
            assert torch.equal(reconstruct(autoencoder, images, draw, noise, encoded).images, result.images)


@pytest.mark.parametrize("kind", ["plain", "equivariance", "low_resolution"])
def test_reconstruct_of_an_equivariant_autoencoder(kind):
    images, transform = smooth_images(16), SpatialTransform((0.5, 0.5), 0 if kind == "low_resolution" else 3)
    draw = Draw(kind, SpatialTransform() if kind == "plain" else transform)
    result = reconstruct(MixingAutoencoder(), images, draw)
    # Values below 3 through two orthogonal 3 x 3 matrices and a resampling: some 20 roundings of 2e-7.
    torch.testing.assert_close(result.images, result.target, rtol=0, atol=1e-5)

    noise = torch.randn(2, 3, 16, 16)
    autoencoder, side = MixingAutoencoder(), result.posterior.mean.shape[-1]
    expected = autoencoder.decode(0.5 * noise[..., :side, :side])
    difference = reconstruct(autoencoder, images, draw, noise).images - result.images
    transformed = transform(expected) if kind == "equivariance" else expected
    torch.testing.assert_close(difference, transformed, rtol=0, atol=1e-5)


def test_draw_is_a_function_of_seed_and_step():
    distribution = TransformDistribution()
    first = [distribution.draw(3, step, (8, 8)) for step in range(50)]
    torch.manual_seed(1)
    again = [TransformDistribution().draw(3, step, (8, 8)) for step in reversed(range(50))]
    assert first == again[::-1]
    assert first != [distribution.draw(4, step, (8, 8)) for step in range(50)]


@pytest.mark.parametrize(("probability", "low_resolution"), [(0.5, 0.25), (0.3, 0.6), (0.0, 0.0), (1.0, 0.5)])
def test_frequencies_of_the_three_kinds(probability, low_resolution):
    distribution = TransformDistribution(probability=probability, low_resolution_probability=low_resolution)
    kinds = [distribution.draw(0, step, (8, 8)).kind for step in range(NUM_DRAWS)]
    expected = {
        "equivariance": probability,
        "low_resolution": (1 - probability) * low_resolution,
        "plain": (1 - probability) * (1 - low_resolution),
    }
    for kind, share in expected.items():
        assert within_five_sigma(kinds.count(kind), NUM_DRAWS, share), (kind, kinds.count(kind))


@pytest.mark.parametrize("side", [4, 8, 32])
@pytest.mark.parametrize("scale", ["isotropic", "anisotropic"])
def test_scales_lie_on_the_grid_and_turns_turn(scale, side):
    distribution = TransformDistribution(scale=scale)
    draws = [distribution.draw(0, step, (side, side)) for step in range(NUM_DRAWS)]
    transforms = {kind: [d.transform for d in draws if d.kind == kind] for kind in ("equivariance", "low_resolution")}
    turns = [t.quarter_turns for t in transforms["equivariance"]]
    assert set(turns) == {1, 2, 3}
    assert all(within_five_sigma(turns.count(k), len(turns), 1 / 3) for k in (1, 2, 3))
    assert {t.scale[0] for t in transforms["equivariance"]} == set(grid(side))
    assert {t.scale[1] for t in transforms["equivariance"]} == set(grid(side))
    assert {t.scale for t in transforms["low_resolution"]} == {(s, s) for s in grid(side)}
    assert {t.quarter_turns for t in transforms["low_resolution"]} == {0}
    isotropic = all(t.scale[0] == t.scale[1] for t in transforms["equivariance"])
    assert isotropic == (scale == "isotropic")


def test_scale_and_rotation_can_be_left_out():
    only_turns = TransformDistribution(scale="none", probability=1.0)
    only_scales = TransformDistribution(rotation="none", probability=1.0, interpolation="bicubic")
    for step in range(50):
        assert only_turns.draw(0, step, (8, 8)).transform.scale == (1.0, 1.0)
        transform = only_scales.draw(0, step, (8, 8)).transform
        assert (transform.quarter_turns, transform.interpolation) == (0, "bicubic")
        assert transform.scale[0] < 1


@pytest.mark.parametrize("name", ["probability", "low_resolution_probability"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_impossible_probabilities_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must lie in \[0, 1\]"):
        TransformDistribution(**{name: value})


def test_impossible_latents_are_refused():
    with pytest.raises(ValueError, match="side 1"):
        TransformDistribution(probability=1.0).draw(0, 0, (1, 1))
    wide = TransformDistribution(scale="anisotropic", probability=1.0).draw(0, 0, (8, 16)).transform.scale
    assert wide[0] in grid(8)
    assert wide[1] in grid(16)


def test_measured_transforms_fit_the_latent_grid():
    turns = {"rotation 90", "rotation 180", "rotation 270"}
    assert set(measured_transforms((8, 8))) == turns | {"scale 0.25", "scale 0.50", "scale 0.75"}
    assert set(measured_transforms((6, 6))) == set(measured_transforms((6, 8))) == turns | {"scale 0.50"}


def test_no_probe_leaves_a_row_that_has_nothing_to_reflect():
    """Latents of 4 x 4: a quarter of them is a single row, and a validation ended in it."""
    autoencoder = tiny_autoencoder(4)
    assert len(equivariance_errors(autoencoder, smooth_images(16))["latent"]) == 6
    set_padding_mode(autoencoder.model, "reflect")
    errors = equivariance_errors(autoencoder, smooth_images(16))["decoded"]
    assert {name for name in errors if name.startswith("scale")} == {"scale 0.50", "scale 0.75"}
    assert len(equivariance_errors(autoencoder, smooth_images(32))["latent"]) == 6


def test_equivariant_autoencoder_has_no_error():
    errors = equivariance_errors(MixingAutoencoder(), smooth_images(16))
    assert set(errors) == {"latent", "decoded"}
    for probes in errors.values():
        assert len(probes) == 6
        for name, values in probes.items():
            assert values.shape == (2,)
            assert values.max() < 1e-11, name


def test_random_autoencoder_has_errors():
    errors = equivariance_errors(tiny_autoencoder(4), smooth_images(16))
    for probes in errors.values():
        assert all((values > 1e-3).all() and values.isfinite().all() for values in probes.values())

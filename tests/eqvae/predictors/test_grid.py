"""How latents vary over their grid: spatial structure, foreground, and power by frequency."""

import math

import pytest
import torch

from eqvae.evaluation import high_frequency_share as share_by_fourier
from eqvae.evaluation.predictors import PREDICTORS, LatentSample
from eqvae.evaluation.predictors.cosine_transform import cosine_basis, mean_power, noise_power
from eqvae.evaluation.predictors.high_frequency import share_above, white_share
from eqvae.evaluation.predictors.slope import spectral_slope
from eqvae.evaluation.predictors.srss import image_scores
from eqvae.evaluation.predictors.structure import contrast, decay, local_against_distant, mean_likeness
from eqvae.evaluation.predictors.tokens import CELLS, grid_distances, pixel_reach, unit_tokens
from tests.eqvae.predictors.samples import normal


def waves(side, turns=1.0):
    """[3, 2, side, side] unit tokens that turn evenly from left to right, the same field on every grid."""
    angle = 2 * math.pi * turns * (torch.arange(side) + 0.5) / side
    return torch.stack((angle.cos(), angle.sin()))[None, :, None].expand(3, 2, side, side).contiguous()


def structure(latents):
    return PREDICTORS["structure"](LatentSample(latents, 256))


def test_distances_are_counted_along_both_axes():
    distance = grid_distances(2, 3)
    assert distance[0].tolist() == [0, 1, 2, 1, 2, 3]
    assert torch.equal(distance, distance.T)


def test_constant_tokens_have_no_structure():
    values = structure(normal(5, 4, 1, 1).expand(5, 4, 16, 16).contiguous())
    assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-3)  # root of a rounding of 1e-7
    assert values["structure/lds"] == pytest.approx(0, abs=1e-6)


def test_random_tokens_have_none_either_but_full_contrast():
    values = structure(normal(40, 256, 8, 8))
    # A cosine spreads by 1/16; 40 images of 112 near and some 1,000 far pairs: 0.001.
    assert values["structure/lds"] == pytest.approx(0, abs=4e-3)
    assert values["structure/cds"] == pytest.approx(0, abs=4e-3)
    assert values["structure/rmsc"] == pytest.approx(math.sqrt(1 - 1 / 64), abs=1e-3)


def test_contrast_is_one_minus_the_mean_tokens_square():
    latents = normal(1, 3, 5, 4) + 1
    mean = torch.nn.functional.normalize(latents.flatten(2), dim=1).mean(2)
    assert contrast(latents) ** 2 == pytest.approx(1 - float(mean.square().sum()), rel=1e-5)


def test_structure_is_what_all_pairs_say():
    latents = normal(3, 4, 8, 8)
    latents = latents + latents.roll(1, 2) + latents.roll(1, 3)
    tokens = torch.nn.functional.normalize(latents.flatten(2), dim=1).double()
    cosines = torch.einsum("ncs,nct->nst", tokens, tokens)
    levels: dict[int, list[float]] = {}
    for i in range(64):
        for j in range(64):
            distance = abs(i // 8 - j // 8) + abs(i % 8 - j % 8)
            levels.setdefault(distance, []).extend(cosines[:, i, j].tolist())
    means = {distance: sum(values) / len(values) for distance, values in levels.items()}
    far = [value for distance, values in levels.items() if distance >= 6 for value in values]
    distance = grid_distances(8, 8)
    likeness = mean_likeness(latents)
    assert local_against_distant(likeness, distance, CELLS) == pytest.approx(means[1] - sum(far) / len(far), abs=1e-6)
    slope = sum((d - 4.5) * means[d] for d in range(1, 9)) / 42
    assert decay(likeness, distance, 8) == pytest.approx(-slope, abs=1e-6)


def test_near_and_far_are_measured_on_the_image():
    assert pixel_reach(16) == (1.5, 6)  # at a sixteenth of 256 pixels as published
    assert pixel_reach(32) == (3, 12)
    assert pixel_reach(8) == (1, 3)  # at least the next cell
    coarse, fine = structure(waves(16, 0.4)), structure(waves(32, 0.4))
    assert coarse["structure/lds"] == coarse["structure/lds_cells"]
    assert fine["structure/lds"] == pytest.approx(coarse["structure/lds"], rel=0.02)
    assert fine["structure/cds"] == pytest.approx(coarse["structure/cds"], rel=0.06)
    # In cells the same image has less structure on the finer grid.
    assert fine["structure/lds_cells"] < 0.9 * coarse["structure/lds_cells"]
    assert fine["structure/cds_cells"] < 0.3 * coarse["structure/cds_cells"]


def test_an_offset_common_to_all_tokens_hides_structure_unless_it_is_taken_away():
    latents = waves(16, 0.4)
    plain, offset = structure(latents), structure(latents + torch.tensor([10.0, 0.0])[:, None, None])
    assert offset["structure/lds"] < 0.1 * plain["structure/lds"]
    assert offset["structure/lds_centred"] == pytest.approx(plain["structure/lds_centred"], abs=1e-5)


def test_two_regions_of_opposite_tokens_have_a_score_of_one():
    latents, masks = torch.zeros(3, 2, 16, 16), torch.zeros(3, 16, 16, dtype=torch.bool)
    masks[0, 4:8, 4:8] = masks[1, :5] = masks[2, :, 9:] = True
    latents[:, 0], latents[:, 1] = masks.float(), 1 - masks.float()
    values = PREDICTORS["srss"](LatentSample(latents, 256, masks=masks))
    assert (values["srss/score"], values["srss/cells"]) == pytest.approx((1, 1))


def test_foreground_scores_are_what_all_pairs_say():
    latents, masks = normal(4, 3, 8, 8), normal(4, 8, 8, seed=1) > 0.3
    tokens, distance = unit_tokens(latents), grid_distances(8, 8)
    scores = image_scores(tokens, masks, distance, pixel_reach(8))
    for image in range(4):
        inside, cosines, anchors = masks[image].flatten(), tokens[image].T @ tokens[image], []
        for i in range(64):
            near = [float(cosines[i, j]) for j in range(64) if inside[j] and distance[i, j] == 1]
            far = [float(cosines[i, j]) for j in range(64) if not inside[j] and distance[i, j] >= 3]
            if inside[i] and near and far:
                anchors.append(sum(near) / len(near) - sum(far) / len(far))
        assert float(scores[image]) == pytest.approx(sum(anchors) / len(anchors), abs=1e-5)


def test_images_without_foreground_or_background_are_left_out():
    latents, masks = normal(4, 3, 8, 8), torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[0, :3] = True
    masks[1] = True  # no background
    masks[2, 4, 4] = True  # a single token; the last image has none
    scores = image_scores(unit_tokens(latents), masks, grid_distances(8, 8), pixel_reach(8))
    assert scores.isnan().tolist() == [False, True, True, True]
    alone = PREDICTORS["srss"](LatentSample(latents, 256, masks=masks))
    assert alone["srss/score"] == pytest.approx(float(scores[0]), rel=1e-6)
    with pytest.raises(ValueError, match="srss finds no image with foreground and, far from it, background"):
        PREDICTORS["srss"](LatentSample(latents, 256, masks=torch.ones(4, 8, 8, dtype=torch.bool)))


@pytest.mark.parametrize(
    ("side", "quarter", "half"), [(8, 54 / 64, 28 / 64), (16, 220 / 256, 120 / 256), (32, 888 / 1024, 496 / 1024)]
)
def test_high_frequencies_of_white_noise(side, quarter, half):
    assert (white_share(side, side, 0.25), white_share(side, side, 0.5)) == (quarter, half)
    values = PREDICTORS["high_frequency"](LatentSample(normal(200, 3, side, side), 256))
    # 200 x 3 x 64 squares at least: 3 sqrt(2 / 38400) of the share.
    assert values["high_frequency/half_of_white"] == pytest.approx(1, abs=0.025)
    assert values["high_frequency/quarter"] == pytest.approx(quarter, abs=0.02)
    assert values["high_frequency/common_band"] == pytest.approx(0.438, abs=0.02)


def test_power_is_that_of_the_pixels():
    latents = normal(7, 3, 6, 10)
    assert float(mean_power(latents).sum()) == pytest.approx(float(latents.square().sum()) / 21, rel=1e-6)
    basis = cosine_basis(6)
    torch.testing.assert_close(basis @ basis.T, torch.eye(6, dtype=torch.float64))


def test_a_constant_has_no_high_frequencies_and_a_chequerboard_little_else():
    power = mean_power(torch.ones(1, 1, 16, 16))
    assert share_above(power, 0.25) == pytest.approx(0, abs=1e-12)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    assert share_above(mean_power(board[None, None]), 0.5) == pytest.approx(0.9948, abs=1e-4)


def test_the_constant_counts_in_the_whole_but_not_in_the_slope():
    latents = normal(50, 3, 8, 8)
    shifted = latents + 3
    plain, offset = (PREDICTORS["high_frequency"](LatentSample(each, 32)) for each in (latents, shifted))
    energy = float(latents.double().square().mean())
    ratio = energy / float(shifted.double().square().mean())
    assert offset["high_frequency/half"] == pytest.approx(plain["high_frequency/half"] * ratio, rel=1e-5)
    slopes = [PREDICTORS["slope"](LatentSample(each, 32))["slope/slope"] for each in (latents, shifted)]
    assert slopes[1] == pytest.approx(slopes[0], abs=1e-4)


def test_shares_of_a_mixture_mix_by_energy():
    rough, smooth = normal(4000, 1, 8, 8), normal(4000, 1, 1, 1, seed=1).expand(4000, 1, 8, 8)
    expected = share_above(mean_power(rough), 0.5) / (1 + 4)
    assert share_above(mean_power(rough + 2 * smooth), 0.5) == pytest.approx(expected, rel=0.05)


def test_a_ramp_has_no_jump_at_the_border():
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    ramp = (ramp - ramp.mean()) / ramp.std()
    assert share_above(mean_power(ramp), 0.25) < 0.01 < 0.09 < share_by_fourier(ramp)


def test_posterior_noise_is_added_not_drawn():
    latents, std = normal(500, 2, 8, 8) * 0.3 + 1, torch.linspace(0.1, 1.5, 64).view(1, 8, 8).expand(2, 8, 8)
    drawn = mean_power(latents + std * normal(500, 2, 8, 8, seed=1))
    added = mean_power(latents) + noise_power(std.square())
    # 1000 squares each: relative errors of sqrt(2 / 1000); also where the noise depends on the place.
    torch.testing.assert_close(added, drawn, rtol=0.2, atol=0)
    assert float(added.sum()) == pytest.approx(float(drawn.sum()), rel=0.02)
    sample = LatentSample(latents, 32, noise=std.square(), rate=torch.ones(2))
    values = PREDICTORS["high_frequency"](sample)
    assert values["high_frequency/half_of_samples"] == pytest.approx(share_above(drawn, 0.5), rel=0.03)
    assert values["high_frequency/half"] < values["high_frequency/half_of_samples"]


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 16)])
def test_slope_of_grids_that_are_no_squares(shape):
    """Frequencies are those of pixels; those of the common band were taken for a square's, -2.28 for 8 x 32."""
    height, width = (torch.arange(n, dtype=torch.float64) / n for n in shape)
    radius = torch.hypot(height[:, None], width)
    radius[0, 0] = 1
    noise = normal(400, 1, *shape).double() / radius
    latents = cosine_basis(shape[0]).T @ noise @ cosine_basis(shape[1])
    values = PREDICTORS["slope"](LatentSample(latents.float(), 64))
    assert values["slope/slope"] == pytest.approx(-2, abs=0.07)
    assert values["slope/common_band"] == pytest.approx(-2, abs=0.07)


def test_slope_is_the_exponent_of_power():
    for side in (16, 32):
        index = torch.arange(side, dtype=torch.float64)
        radius = torch.hypot(index[:, None], index)
        for exponent in (-3.0, -2.0, 0.0):
            power = radius.clamp_min(1).pow(exponent)
            # A ring is one half cycle wide: its mean power lies above that at its mean frequency, by 2 % at the second.
            assert spectral_slope(power) == pytest.approx(exponent, abs=0.05)


def test_slope_of_natural_and_white_latents():
    index = torch.arange(16.0)
    amplitude = torch.hypot(index[:, None], index).clamp_min(1).pow(-1)
    basis = cosine_basis(16).float()
    natural = basis.T @ (normal(400, 4, 16, 16) * amplitude) @ basis
    values = PREDICTORS["slope"](LatentSample(natural, 256))
    assert values["slope/slope"] == pytest.approx(-2, abs=0.1)
    assert values["slope/common_band"] == pytest.approx(-2, abs=0.1)
    assert PREDICTORS["slope"](LatentSample(normal(400, 4, 16, 16), 256))["slope/slope"] == pytest.approx(0, abs=0.03)
    noisy = LatentSample(natural, 256, noise=torch.full((4, 16, 16), 0.05), rate=torch.ones(4))
    assert PREDICTORS["slope"](noisy)["slope/of_samples"] > values["slope/slope"] + 0.3
    with pytest.raises(ValueError, match="slope needs latents that vary over an image"):
        PREDICTORS["slope"](LatentSample(normal(5, 4, 1, 1).expand(5, 4, 8, 8).contiguous(), 256))

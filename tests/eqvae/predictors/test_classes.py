"""What latents say of classes: VIV and Fisher geometry within them, neighbours and a linear probe between them."""

import math

import numpy as np
import pytest
import torch

from eqvae.evaluation.predictors import PREDICTORS, LatentSample
from eqvae.evaluation.predictors.fisher import error_rate, information, information_rate
from eqvae.evaluation.predictors.kronecker import kronecker_spectrum, variance_within, white_spectrum
from eqvae.evaluation.predictors.lnc import chance, consistency, foreground_means
from eqvae.evaluation.predictors.measuring import predict
from eqvae.evaluation.predictors.probe import FOLDS, PENALTIES, folds, probe_accuracy, ridge
from eqvae.evaluation.predictors.viv import spectrum_to_variance
from tests.eqvae.predictors.samples import normal

EIGENVALUES = torch.tensor([0.1, 1.0, 4.0], dtype=torch.float64)
LOG_NOISE = np.linspace(math.log(0.1), math.log(10), 20001)


def labelled(latents, num_classes, image_size=32, **more):
    return LatentSample(latents, image_size, labels=torch.arange(len(latents)) % num_classes, **more)


def estimated(latents):
    """Spectrum of [N, C, S] by the Kronecker fit."""
    return kronecker_spectrum(latents - latents.mean(0), variance_within(latents))


@pytest.mark.parametrize(("eigenvalue", "value"), [(0.1, 0.49673), (1.0, 1.57080), (4.0, 3.14159)])
def test_viv_is_the_integral_over_time(eigenvalue, value):
    t = (np.arange(100_000) + 0.5) / 100_000
    integral = (eigenvalue / ((1 - t) ** 2 + t**2 * eigenvalue)).mean()
    assert integral == pytest.approx(value, abs=1e-5)
    assert spectrum_to_variance(torch.tensor([eigenvalue], dtype=torch.float64)) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize(
    ("per_class", "shape"), [(50, (4, 32, 32)), (50, (16, 16, 16)), (10, (4, 8, 8)), (200, (4, 8, 8))]
)
def test_viv_of_white_noise_is_one_whatever_the_shape_and_the_number_of_images(per_class, shape):
    values = PREDICTORS["viv"](labelled(normal(3 * per_class, *shape), 3))
    # Spread of the estimates themselves: at most 0.01 at 10 images of 256 numbers.
    assert values["viv/of_white"] == pytest.approx(1, abs=0.02)
    assert values["viv/pooled_of_white"] == pytest.approx(1, abs=0.02)
    assert values["viv/within_share"] == pytest.approx(1, abs=0.02)


def test_viv_of_white_noise_is_one_with_classes_of_few_images_and_of_one():
    """Class means take degrees of freedom, and a class of one image has none; .97 and .96 without that."""
    pairs = LatentSample(normal(100, 4, 8, 8), 32, labels=torch.arange(100) % 50)
    assert PREDICTORS["viv"](pairs)["viv/pooled_of_white"] == pytest.approx(1, abs=0.012)
    singles = torch.cat((torch.arange(40) % 2, torch.arange(2, 102)))
    with pytest.warns(UserWarning, match="100 classes of a single image are left out"):
        mixed = PREDICTORS["viv"](LatentSample(normal(140, 4, 8, 8), 32, labels=singles))
    assert mixed["viv/pooled_of_white"] == pytest.approx(1, abs=0.012)


def test_viv_itself_collapses_for_fine_grids_and_few_images():
    """Why it is divided by white noise's, and why a grid of 32 x 32 is folded to 16 x 16."""
    assert spectrum_to_variance(estimated(normal(50, 4, 256))) == pytest.approx(1.21, abs=0.02)
    assert spectrum_to_variance(estimated(normal(50, 4, 1024))) == pytest.approx(0.664, abs=0.02)
    assert spectrum_to_variance(white_spectrum(50, 4, 32, 32)) == pytest.approx(1.49, abs=0.02)


def test_viv_of_a_gaussian_of_known_covariance():
    channel, spatial = torch.linspace(0.02, 0.5, 4), torch.linspace(0.005, 1, 16)
    latents = normal(4000, 4, 16) * channel.sqrt()[:, None] * spatial.sqrt()
    true = math.pi / 2 * float(torch.outer(channel, spatial).sqrt().mean())
    assert spectrum_to_variance(estimated(latents)) == pytest.approx(true, rel=0.01)


def test_viv_lies_below_its_bound_and_scales_with_latents():
    latents = normal(90, 4, 4, 4) * torch.linspace(0.1, 2, 4)[:, None, None]
    latents += 2 * normal(3, 4, 4, 4, seed=1).repeat(30, 1, 1, 1)
    latents /= latents.std((0, 2, 3), correction=0, keepdim=True)
    values = PREDICTORS["viv"](labelled(latents, 3))
    bound = math.pi / 2 * math.sqrt(values["viv/within_share"])
    assert 0 < values["viv/raw"] < bound < math.pi / 2
    doubled = PREDICTORS["viv"](labelled(2 * latents, 3))
    assert doubled["viv/raw"] == pytest.approx(2 * values["viv/raw"], rel=1e-5)


def test_viv_of_constant_classes_is_zero():
    values = PREDICTORS["viv"](labelled(normal(3, 4, 8, 8).repeat(20, 1, 1, 1), 3))
    assert values["viv/raw"] == values["viv/of_white"] == values["viv/pooled_of_white"] == 0
    assert values["viv/within_share"] == pytest.approx(0, abs=1e-6)


def test_viv_of_one_latent_is_refused():
    """An encoder that does not look at its image: all latents are one, and there is no variance to take a share of."""
    sample = labelled(normal(1, 4, 8, 8).repeat(21, 1, 1, 1), 3)
    with pytest.raises(ValueError, match="viv needs two different latents at least"):
        PREDICTORS["viv"](sample)
    assert predict(sample).left_out["viv"] == "needs two different latents at least"


def test_within_share_is_that_of_an_analysis_of_variance():
    latents, labels = normal(40, 2, 4, 4).double(), torch.arange(40) % 4
    latents = latents + 2 * normal(4, 2, 4, 4, seed=1).double()[labels]
    within = sum(((latents[labels == k] - latents[labels == k].mean(0)) ** 2).sum(0).mean() / 9 for k in range(4)) / 4
    share = float(within / latents.var(0).mean())
    assert 0.1 < share < 0.5
    assert PREDICTORS["viv"](labelled(latents, 4))["viv/within_share"] == pytest.approx(share, rel=1e-6)


def test_posterior_noise_is_added_to_the_within_share_as_if_it_were_drawn():
    latents = normal(400, 4, 8, 8) * 0.7 + normal(4, 4, 8, 8, seed=1).repeat(100, 1, 1, 1)
    std = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(2)) + 0.5
    drawn = PREDICTORS["viv"](labelled(latents + std * normal(400, 4, 8, 8, seed=3), 4))
    added = PREDICTORS["viv"](labelled(latents, 4, noise=std.square()))
    # 100,000 numbers are drawn: a relative error of sqrt(2 / 1e5) in their variance.
    assert added["viv/within_share_of_samples"] == pytest.approx(drawn["viv/within_share"], rel=0.01)
    assert added["viv/within_share"] < added["viv/within_share_of_samples"]


def test_classes_of_one_image_are_left_out_with_a_warning():
    sample = labelled(normal(41, 4, 8, 8), 4)
    sample.labels[-1] = 9
    with pytest.warns(UserWarning, match="1 classes of a single image are left out"):
        values = PREDICTORS["viv"](sample)
    assert values["viv/raw"] == pytest.approx(PREDICTORS["viv"](labelled(sample.latents[:40], 4))["viv/raw"], rel=1e-6)
    alone = LatentSample(normal(9, 4, 8, 8), 32, labels=torch.arange(9))
    with pytest.raises(ValueError, match="no class has two images: give more images of each class"):
        PREDICTORS["viv"](alone)


def test_fisher_information_is_the_integral_over_the_logarithm_of_noise():
    squares = np.exp(2 * LOG_NOISE)[:, None]
    eigenvalues = EIGENVALUES.numpy()
    for measure, integrand in (
        (information, squares / (eigenvalues + squares)),
        (information_rate, (squares / (eigenvalues + squares)) ** 2),
        (error_rate, (eigenvalues / (eigenvalues + squares)) ** 2),
    ):
        assert measure(EIGENVALUES) == pytest.approx(integrand.mean(1).mean(), rel=1e-4)


def test_fisher_measures_are_those_of_the_denoising_error():
    """Tweedie: MMSE = sigma^2 (d - sigma^2 J), and the rate is its derivative by sigma^2; of a Gaussian."""
    square, step = 0.7, 1e-5

    def error(square):
        return float((EIGENVALUES * square / (EIGENVALUES + square)).sum())

    fisher = float((1 / (EIGENVALUES + square)).sum())
    assert error(square) == pytest.approx(square * (3 - square * fisher), rel=1e-12)
    slope = (error(square + step) - error(square - step)) / (2 * step)
    assert slope == pytest.approx(float((EIGENVALUES / (EIGENVALUES + square)).square().sum()), rel=1e-6)


def test_fisher_of_scaled_latents():
    """J of s x at noise s sigma is J of x at sigma over s^2: only the range of noise moves."""
    wide = torch.linspace(0.5, 2, 7, dtype=torch.float64)

    def at(eigenvalues, sigma):
        return float((1 / (eigenvalues + sigma**2)).mean())

    assert at(9 * wide, 3 * 0.4) == pytest.approx(at(wide, 0.4) / 9, rel=1e-12)
    assert information(9 * wide) < information(wide)
    assert error_rate(9 * wide) > error_rate(wide)


def test_fisher_of_white_noise_is_one():
    values = PREDICTORS["fisher"](labelled(normal(400, 4, 8, 8), 8))
    assert [values[f"fisher/{name}_of_white"] for name in ("error_rate", "information", "rate")] == pytest.approx(
        [1, 1, 1], abs=0.02
    )


def test_white_spectra_have_the_variance_of_white_noise():
    assert float(white_spectrum(50, 4, 32, 32).mean()) == pytest.approx(1, abs=0.02)


def test_one_hot_neighbours_are_of_the_same_class():
    labels = torch.arange(60) % 3
    vectors = torch.nn.functional.one_hot(labels, 3).float() + 0.1 * normal(60, 3)
    assert consistency(vectors, labels, 10) == 1
    assert consistency(vectors * torch.rand(60, 1), labels, 10) == 1  # by angle: lengths do not matter


def test_neighbours_of_labels_that_say_nothing_are_at_chance():
    labels = torch.arange(5000) % 100
    assert chance(labels) == pytest.approx(49 / 4999)
    share = consistency(normal(5000, 8), labels, 10)
    level = chance(labels)
    assert abs(share - level) < 3 * math.sqrt(level * (1 - level) / (5000 * 10))


def test_lnc_is_corrected_for_chance():
    latents = normal(60, 3, 4, 4)
    values = PREDICTORS["lnc"](labelled(latents, 2))
    level = chance(torch.arange(60) % 2)
    assert values["lnc/above_chance"] == pytest.approx((values["lnc/at_10"] - level) / (1 - level))
    clear = latents + 9 * torch.tensor([1.0, -1.0]).repeat(30)[:, None, None, None]
    assert PREDICTORS["lnc"](labelled(clear, 2))["lnc/above_chance"] == 1


def test_copies_of_images_change_neither_neighbours_nor_probe():
    latents = normal(60, 3, 4, 4)
    once = labelled(latents, 3)
    twice = LatentSample(latents.repeat(2, 1, 1, 1), 32, labels=once.labels.repeat(2))
    assert PREDICTORS["lnc"](twice) == PREDICTORS["lnc"](once)
    assert consistency(twice.latents.mean((2, 3)), twice.labels, 10) > PREDICTORS["lnc"](once)["lnc/at_10"] + 0.03
    assert twice.different().tolist() == list(range(60))


def test_neighbours_are_those_of_the_foreground_where_it_is_known():
    latents, masks = torch.zeros(3, 2, 2, 2), torch.zeros(3, 2, 2, dtype=torch.bool)
    latents[0, :, 0, 0] = torch.tensor([4.0, 8.0])
    masks[0, 0, 0] = masks[1, 1] = True
    latents[1, 0, 1] = torch.tensor([2.0, 6.0])
    latents[2] = 5  # no foreground: all pixels
    assert foreground_means(latents, masks).tolist() == [[4, 8], [4, 0], [5, 5]]
    assert foreground_means(latents, None)[0].tolist() == [1, 2]


def test_folds_hold_every_class_though_classes_alternate_at_their_own_pace():
    for labels in (torch.arange(100) % 10, torch.arange(100) // 10):
        fold = folds(labels)
        counts = torch.stack([(labels[fold == each]).bincount(minlength=10) for each in range(FOLDS)])
        assert counts.tolist() == [[2] * 10] * FOLDS


def test_probe_separates_what_a_line_separates_and_nothing_else():
    labels = torch.arange(300) % 3
    centres = torch.eye(3).repeat(1, 2)
    assert probe_accuracy((centres[labels] + 0.1 * normal(300, 6)).double(), labels) == 1
    accuracy = probe_accuracy(normal(3000, 6).double(), torch.arange(3000) % 3)
    assert accuracy == pytest.approx(1 / 3, abs=3 * math.sqrt(2 / 9 / 3000))
    ring = torch.nn.functional.normalize(normal(300, 2), dim=1) * (1 + labels[:, None])  # no line separates rings
    assert probe_accuracy(ring.double(), labels) < 0.6


def test_ridge_is_the_solution_of_least_leave_one_out_error():
    features, noise = normal(40, 12).double(), normal(40, 2, seed=1).double()
    targets = features @ normal(12, 2, seed=2).double() * 0.3 + noise
    features, targets = features - features.mean(0), targets - targets.mean(0)

    def solution(x, y, penalty):
        return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)

    def error(penalty):
        total = 0.0
        for row in range(40):
            rest = torch.arange(40) != row
            shift, offset = features[rest].mean(0), targets[rest].mean(0)
            weights = solution(features[rest] - shift, targets[rest] - offset, penalty)
            total += float(((features[row] - shift) @ weights + offset - targets[row]).square().sum())
        return total

    mean = torch.linalg.svdvals(features).square().mean()
    best = min((float(mean) * penalty for penalty in PENALTIES), key=error)
    assert float(mean) * PENALTIES[0] < best < float(mean) * PENALTIES[-1]
    torch.testing.assert_close(ridge(features, targets), solution(features, targets, best), rtol=1e-8, atol=1e-10)


def test_probe_is_corrected_for_the_largest_class():
    latents = normal(200, 4, 4, 4)
    sample = LatentSample(latents, 16, labels=(torch.arange(200) % 4 == 0).long())
    values = PREDICTORS["probe"](sample)
    assert values["probe/flat_above_chance"] == pytest.approx((values["probe/flat"] - 0.75) / 0.25)
    assert abs(values["probe/flat_above_chance"]) < 0.3

"""Distances of subsets, and the distance of infinitely many images: equal forms, known distributions, names."""

import numpy as np
import pytest
import torch

from eqvae.evaluation import EXTRACTORS, features_to_statistics, statistics_to_frechet_distance, subsets
from eqvae.evaluation.feature_sets import FeatureSet
from eqvae.evaluation.generation import feature_sets_to_generation_metrics
from eqvae.evaluation.subsets import SubsetDistances, extrapolated_distance
from twostage import load_sweep

WIDTH, COUNT = 12, 150


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("count", "width"), [(30, 40), (90, 10)])
@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_they_are_the_distances_of_the_subsets(count, width):
    """Whatever has fewer dimensions is computed with, images or features; rows may repeat."""
    reference, features = features_to_statistics(normal(80, width)), 1.3 * normal(count, width, seed=1) + 0.2
    distances, order = SubsetDistances(reference, features), np.random.default_rng(0).integers(count, size=count)
    sizes = [5, 8, 20, count]
    expected = [statistics_to_frechet_distance(reference, features_to_statistics(features[order[:n]])) for n in sizes]
    assert distances.of_growing(order, sizes) == pytest.approx(expected, rel=1e-6)
    assert [distances(order[:size]) for size in sizes] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="features do not match"):
        SubsetDistances(reference, features[:, 1:])


def test_the_extrapolated_distance_is_that_of_the_distribution():
    """Of Gaussians along common axes: sum of (m - m')^2 + (s - s')^2. The plain one of 150 images is 0.79 for 0.43.

    Means of 16 sets: the truth lies within 3 standard errors of the one, and more than 5 from the other. What is
    called its spread is that of the sets, by no more than chance and its width: between 0.7 and 1.7 times.
    """
    spreads = torch.linspace(0.5, 1.5, WIDTH).double()
    shift, widened = 0.15 * spreads, 1.1 * spreads
    real = {"mu": np.zeros(WIDTH), "sigma": torch.diag(spreads.square()).numpy()}
    truth = float(shift.square().sum() + (widened - spreads).square().sum())
    sets = [shift + widened * normal(COUNT, WIDTH, seed=seed) for seed in range(16)]
    plain = np.array([statistics_to_frechet_distance(real, features_to_statistics(each)) for each in sets])
    found, told = np.array([extrapolated_distance(real, each) for each in sets]).T
    error = found.std(ddof=1) / 4
    assert abs(found.mean() - truth) < 3 * error
    assert plain.mean() - truth > 5 * plain.std(ddof=1) / 4
    assert 0.7 < told.mean() / found.std(ddof=1) < 1.7


def test_a_line_over_the_inverse_number_of_images_is_followed_to_its_end(monkeypatch):
    monkeypatch.setattr(SubsetDistances, "of_growing", lambda self, order, sizes: [7.5 + 300 / size for size in sizes])
    real = features_to_statistics(normal(60, 4))
    value, spread = extrapolated_distance(real, normal(40, 4))
    assert value == pytest.approx(7.5)
    assert spread == pytest.approx(0, abs=1e-9)


def test_one_seed_one_number():
    real, generated = features_to_statistics(normal(60, 4)), normal(40, 4, seed=1)
    first = extrapolated_distance(real, generated)
    assert extrapolated_distance(real, generated.float().double()) != first
    assert extrapolated_distance(real, generated) == first != extrapolated_distance(real, generated, seed=1)


@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_too_few_images_are_refused_or_told():
    real = features_to_statistics(normal(60, 30))
    with pytest.raises(ValueError, match=f"needs at least {subsets.LEAST_IMAGES} images, got 19"):
        extrapolated_distance(real, normal(19, 30))
    with pytest.warns(UserWarning, match="25 images for 30 features: .* is rough"):
        extrapolated_distance(real, normal(25, 30))


def test_it_is_measured_where_it_is_asked_for():
    features = normal(50, 6, seed=1)
    real, generated = features_to_statistics(normal(60, 6)), features_to_statistics(features)
    sets = (FeatureSet(real), FeatureSet(generated, features=features))
    found = feature_sets_to_generation_metrics(*sets, "inception_v3", ["fd", "fd_inf"])
    assert list(found) == ["fid", "fid_inf", "fid_inf_std"]
    assert found["fid_inf"] < found["fid"]
    assert list(feature_sets_to_generation_metrics(*sets, "inception_v3", ["fd"])) == ["fid"]
    with pytest.raises(ValueError, match="metric 'fid' is unknown: use some of fd, fd_inf, sfd"):
        feature_sets_to_generation_metrics(*sets, "inception_v3", ["fid"])
    metric = EXTRACTORS["efficientnet_lite0"].extrapolated_metric()
    assert (metric.name, metric.heading) == ("fd_efficientnet_lite0_inf", "FD∞ ↓")
    words = ["evaluation.metrics=[fd,fd_inf]", "evaluation.metric=fd_efficientnet_lite0_inf"]
    assert load_sweep("configs/sweeps/tiny-shapes.yaml", words).evaluation.metrics == ["fd", "fd_inf"]

"""Fréchet distances of resampled images are those of the resampled features, whichever way they are computed."""

import numpy as np
import pytest
import torch

from eqvae.evaluation.distances import features_to_statistics, statistics_to_frechet_distance
from twostage.analysis.resampling import resampled_distances


@pytest.mark.parametrize(("num_samples", "width"), [(20, 30), (60, 8)])
def test_they_are_the_distances_of_resampled_features(num_samples, width):
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(80, width, generator=generator)
    features = 1.3 * torch.randn(num_samples, width, generator=generator) + 0.2
    reference = features_to_statistics(real)
    found = resampled_distances(reference, features, 3, seed=5)
    picks = np.random.default_rng(5).integers(num_samples, size=(3, num_samples))
    expected = [statistics_to_frechet_distance(reference, features_to_statistics(features[pick])) for pick in picks]
    assert found == pytest.approx(expected, rel=1e-6)
    assert resampled_distances(reference, features, 0, seed=5) == []

"""How latents lie as points: dimension, rank, density, and neighbours shared with a frozen network."""

import itertools
import math

import numpy as np
import pytest
import torch

from eqvae.evaluation import intrinsic_dimension
from eqvae.evaluation.latents import nearest_distances
from eqvae.evaluation.predictors import PREDICTORS, LatentSample
from eqvae.evaluation.predictors.cknna import neighbour_alignment, unbiased_hsic
from eqvae.evaluation.predictors.density import gini, log_spread, normalized_entropy
from eqvae.evaluation.predictors.dimension import distances_to_dimensions
from eqvae.evaluation.predictors.principal import principal_directions
from eqvae.evaluation.predictors.rank import participation_ratio
from tests.eqvae.predictors.samples import normal, orthogonal


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dimensions(points, neighbours=20):
    return distances_to_dimensions(nearest_distances(points, neighbours))


def test_nearest_distances_are_those_of_all_pairs(monkeypatch):
    points = normal(80, 6).double() + 1e6  # products alone would lose the differences
    pairs = (points[:, None] - points).norm(dim=2).sort(dim=1).values[:, 1:4]
    torch.testing.assert_close(nearest_distances(points, 3), pairs, rtol=1e-9, atol=0)
    monkeypatch.setattr("eqvae.evaluation.latents.LARGEST_CHUNK", 100)
    torch.testing.assert_close(nearest_distances(points, 3), pairs, rtol=1e-9, atol=0)


def test_dimension_of_a_plane_and_of_a_cube():
    assert dimensions(uniform(2000, 2)) == pytest.approx((2, 2), abs=0.15)
    twonn, likelihood = dimensions(uniform(2000, 5))
    # The border makes every estimate low, more so with more neighbours; errors of 1 / sqrt(2000) and less.
    assert 4.4 < twonn < 5
    assert likelihood == pytest.approx(4.5, abs=0.1)


def test_dimension_by_likelihood_is_the_formula():
    nearest = nearest_distances(normal(200, 4).double(), 8)
    inverses = [sum(math.log(row[7] / row[j]) for j in range(7)) / 7 for row in nearest.tolist()]
    assert dimensions(normal(200, 4).double(), 8)[1] == pytest.approx(200 / sum(inverses), rel=1e-9)
    assert dimensions(normal(200, 4).double())[0] == pytest.approx(intrinsic_dimension(normal(200, 4)), rel=1e-9)


def test_dimension_does_not_change_under_an_isometry_into_a_thousand_dimensions():
    flat = normal(300, 6).double()
    basis = torch.linalg.qr(normal(1000, 6).double()).Q
    assert dimensions(flat @ basis.T) == pytest.approx(dimensions(flat), rel=1e-6)


def test_dimension_saturates_and_white_noise_tells_where():
    latents = normal(500, 16, 8, 8)
    values = PREDICTORS["dimension"](LatentSample(latents, 32))
    assert values["dimension/twonn"] < 250 < 1024
    assert values["dimension/mle_of_white"] == pytest.approx(1, abs=0.05)
    # TwoNN of 500 points has a relative error of 1 / sqrt(500), in both.
    assert values["dimension/twonn_of_white"] == pytest.approx(1, abs=3 * math.sqrt(2 / 500))


def test_copies_do_not_change_the_dimension():
    latents = normal(60, 4, 4, 4)
    once, twice = (PREDICTORS["dimension"](LatentSample(each, 32)) for each in (latents, latents.repeat(2, 1, 1, 1)))
    assert twice == pytest.approx(once, rel=1e-6)
    with pytest.raises(ValueError, match="dimension needs at least 4 different latents, got 3"):
        PREDICTORS["dimension"](LatentSample(latents[:3].repeat(9, 1, 1, 1), 32))


def test_ranks_are_ordered_and_equal_for_equal_eigenvalues():
    assert participation_ratio(torch.ones(7)) == 7
    assert participation_ratio(torch.tensor([3.0, 1.0])) == pytest.approx(16 / 10)
    unequal = normal(4000, 4, 2, 2) * torch.tensor([3.0, 1, 1, 0.1])[:, None, None]
    values = PREDICTORS["rank"](LatentSample(unequal, 32))
    assert 0.25 < values["rank/participation_share"] < values["rank/channels_share"] < 1
    assert values["rank/participation_share"] == pytest.approx(11.01**2 / (81 + 1 + 1 + 1e-4) / 4, rel=0.03)
    assert values["rank/log10_condition"] == pytest.approx(math.log10(900), abs=0.03)


def test_rank_of_white_noise_is_one():
    values = PREDICTORS["rank"](LatentSample(normal(200, 4, 16, 16), 32))
    assert values["rank/channels_share"] == pytest.approx(1, abs=1e-3)
    assert values["rank/latents"] < 200
    assert values["rank/latents_of_white"] == pytest.approx(1, abs=0.01)


def test_principal_directions_are_the_leading_eigenvectors():
    for shape in ((200, 6), (30, 50)):
        vectors = normal(*shape).double() * torch.linspace(3, 1, shape[1])
        expected = torch.linalg.svd(vectors - vectors.mean(0))[2][:3].T
        found = principal_directions(vectors, 3)
        torch.testing.assert_close((found.T @ expected).abs(), torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)
    line = torch.arange(9.0)[:, None] * torch.ones(4)
    assert principal_directions(line, 3).shape == (4, 1)
    assert principal_directions(torch.ones(9, 4), 3).shape == (4, 0)


def test_uniformity_of_densities():
    n = 1000
    equal, even = np.full(n, 0.3), (np.arange(n) + 0.5) / n
    exponential = -np.log(1 - even)
    assert gini(equal) == pytest.approx(0, abs=1e-12)
    assert gini(even) == pytest.approx(1 / 3, abs=1e-3)
    assert gini(exponential) == pytest.approx(1 / 2, abs=5e-3)
    assert normalized_entropy(equal) == pytest.approx(1)
    assert normalized_entropy(np.array([1.0, 1, 0, 0])) == pytest.approx(0.5)
    for measure in (gini, normalized_entropy):
        assert measure(7 * exponential) == pytest.approx(measure(exponential), rel=1e-12)


def test_spread_of_log_density():
    """Poisson: the number of points nearer than r_k makes D log r_k spread by the root of trigamma(k), 0.324 for 10."""
    points = uniform(4000, 2, seed=1)
    inner = ((points - 0.5).abs() < 0.4).all(1)
    distances = nearest_distances(points, 10)[inner, -1]
    # Neighbours share their neighbours: some 250 independent distances, an error of 0.014.
    assert 2 * float(distances.log().std()) == pytest.approx(0.324, abs=0.03)
    assert log_spread(5 * points[:500]) == pytest.approx(log_spread(points[:500]), rel=1e-9)


def test_density_of_white_noise_and_of_clusters():
    even = PREDICTORS["density"](LatentSample(normal(1000, 4, 4, 4), 32))
    assert even["density/spread_of_white"] == pytest.approx(1, abs=0.1)
    tight = normal(1000, 4, 4, 4)
    tight[::2] *= 0.01  # every other image, on all pixels
    uneven = PREDICTORS["density"](LatentSample(tight, 32))
    assert uneven["density/spread_of_white"] > 2
    assert uneven["density/entropy"] < even["density/entropy"]
    assert uneven["density/gini"] > even["density/gini"]
    assert uneven["density/variation"] > even["density/variation"]


def test_hsic_is_the_mean_over_four_different_rows():
    """Song et al., 2012, eq. 4: k_ij (l_ij + l_qr - 2 l_iq) over all ordered quadruples."""
    first, second = (kernel @ kernel.T for kernel in (normal(6, 3).double(), normal(6, 2, seed=1).double()))
    terms = [
        float(first[i, j] * (second[i, j] + second[q, r] - 2 * second[i, q]))
        for i, j, q, r in itertools.permutations(range(6), 4)
    ]
    assert float(unbiased_hsic(first, second)) == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_cknna_of_the_same_the_turned_and_the_unrelated():
    first, other = normal(1000, 12), normal(1000, 20, seed=1)
    assert neighbour_alignment(first, first) == pytest.approx(1)
    assert neighbour_alignment(first @ orthogonal(12), first) == pytest.approx(1)
    assert abs(neighbour_alignment(first, other)) < 0.05
    half = neighbour_alignment(first, first + normal(1000, 12, seed=2))
    assert 0.1 < half < 0.9


def test_cknna_with_every_row_a_neighbour_is_the_unbiased_kernel_alignment():
    first, second = normal(40, 5).double(), normal(40, 7, seed=1).double()
    second[:, :5] += first
    kernels = [each @ each.T for each in (torch.nn.functional.normalize(each, dim=1) for each in (first, second))]
    own = [float(unbiased_hsic(kernel, kernel)) for kernel in kernels]
    alignment = float(unbiased_hsic(*kernels)) / math.sqrt(own[0] * own[1])
    assert neighbour_alignment(first, second, neighbours=39) == pytest.approx(alignment, rel=1e-9)


def test_cknna_may_be_negative():
    unrelated = [neighbour_alignment(normal(50, 5, seed=seed), normal(50, 5, seed=seed + 50), 40) for seed in range(9)]
    assert min(unrelated) < 0 < max(unrelated)


def test_cknna_counts_no_copies_of_images():
    generator = torch.Generator().manual_seed(0)
    latents, features = (torch.randn(200, 8, generator=generator) for _ in range(2))
    network = {"extract": len, "decode": len}
    once = LatentSample(latents.view(200, 2, 2, 2), 32, features=features, **network)
    twice = LatentSample(once.latents.repeat(2, 1, 1, 1), 32, features=features.repeat(2, 1), **network)
    found = PREDICTORS["cknna"](once)
    assert PREDICTORS["cknna"](twice) == found
    assert neighbour_alignment(latents.repeat(2, 1), features.repeat(2, 1)) > 0.1 + found["cknna/flat"]


def test_cknna_needs_images():
    sample = LatentSample(normal(11, 4, 4, 4), 8, features=normal(11, 9), extract=len, decode=len)
    with pytest.raises(ValueError, match="cknna needs more than 11 different latents, got 11"):
        PREDICTORS["cknna"](sample)

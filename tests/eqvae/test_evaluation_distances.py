"""Distances between feature sets: closed forms, conventions, what is refused."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from eqvae.evaluation import (
    distances,
    features_to_statistics,
    frechet_distance,
    kernel_distance,
    kernels,
    precision_recall,
    statistics_to_frechet_distance,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_statistics(mean: torch.Tensor, root: torch.Tensor, seed: int) -> torch.Tensor:
    """Samples whose mean is exactly `mean` and whose unbiased covariance is exactly root' root."""
    samples = normal(500, len(mean), seed=seed)
    samples -= samples.mean(0)
    whitened = samples @ torch.linalg.inv(torch.linalg.cholesky(samples.T @ samples / 499)).T
    return whitened @ root + mean


@pytest.mark.reliability(28)
def test_frechet_distance_of_gaussians_in_closed_form(reached):
    # Commuting covariances: sum of (m - m')^2 + (s - s')^2 along common axes, here turned by an orthogonal matrix.
    axes = torch.linalg.qr(normal(6, 6)).Q
    means, spreads = normal(2, 6, seed=1), normal(2, 6, seed=2).abs() + 0.1
    real, generated = (
        with_statistics(mean, torch.diag(spread) @ axes, seed)
        for seed, mean, spread in zip((3, 4), means, spreads, strict=True)
    )
    expected = float((means[0] - means[1]).square().sum() + (spreads[0] - spreads[1]).square().sum())
    found = frechet_distance(real, generated)
    assert found == pytest.approx(expected, rel=1e-9)
    reached.largest("closed form", abs(found / expected - 1))


@pytest.mark.reliability(28)
@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_frechet_distance_of_singular_covariances(reached):
    """Fewer samples than features: the trace of the root is the nuclear norm of the centred samples' products."""
    real, generated = normal(40, 200), 3 * normal(50, 200, seed=1)
    centred = [features - features.mean(0) for features in (real, generated)]
    cross = torch.linalg.svdvals(centred[0] @ centred[1].T).sum() / (39 * 49) ** 0.5
    traces = sum(features.square().sum() / (len(features) - 1) for features in centred)
    expected = float((real.mean(0) - generated.mean(0)).square().sum() + traces - 2 * cross)
    found = frechet_distance(real, generated)
    assert found == pytest.approx(expected, rel=1e-9)
    reached.largest("closed form", abs(found / expected - 1))
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("smallest", [1e-3, 1e-6, 1e-9, 1e-15, 0.0])
def test_the_trace_of_the_root_is_exact_however_thin_the_features_are(smallest):
    """Commuting covariances, whose root has the products of their spreads as eigenvalues.

    A covariance in float64 knows spreads down to 1e-8 of the largest, so the distance to 1e-7 of the traces.
    """
    axes, spreads = torch.linalg.qr(normal(60, 60)).Q, torch.logspace(0, -3, 60, dtype=torch.float64)
    thin = torch.cat([spreads[:30], smallest * spreads[30:]])
    kept = [{"mu": np.zeros(60), "sigma": ((axes * each**2) @ axes.T).numpy()} for each in (spreads, thin, spreads)]
    for real, generated in (kept[:2], kept[1:]):
        expected = float((spreads - thin).square().sum())
        assert statistics_to_frechet_distance(real, generated) == pytest.approx(expected, abs=1e-7)


def test_frechet_distance_is_float64_throughout():
    """A mean far from zero loses the covariance in float32."""
    real, generated = normal(2000, 4), 2 * normal(2000, 4, seed=1)
    near, far = frechet_distance(real, generated), frechet_distance(real + 1e5, generated + 1e5)
    assert far == pytest.approx(near, rel=1e-6)
    assert frechet_distance(real.numpy(), generated.numpy()) == near


def test_kept_statistics_give_the_same_distance():
    real, generated = normal(100, 5), normal(80, 5, seed=1)
    kept = features_to_statistics(real)
    assert kept["mu"].dtype == kept["sigma"].dtype == np.float64
    assert statistics_to_frechet_distance(kept, features_to_statistics(generated)) == frechet_distance(real, generated)


@pytest.mark.parametrize("count", [60, 10])
@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_a_stored_root_gives_the_same_distance(count, monkeypatch):
    """To the last bit, without taking the reference's covariance apart again; of few samples it has few columns."""
    real, generated = (features_to_statistics(normal(count, 20, seed=seed)) for seed in (0, 1))
    expected, stored = statistics_to_frechet_distance(real, generated), distances.with_root(real)
    assert stored["root"].shape == (20, min(count - 1, 20))
    np.testing.assert_allclose(stored["root"] @ stored["root"].T, real["sigma"], atol=1e-12)
    taken, square_root = [], distances._square_root
    monkeypatch.setattr(distances, "_square_root", lambda matrix: taken.append(matrix) or square_root(matrix))
    assert statistics_to_frechet_distance(stored, generated) == expected
    assert not any(matrix is real["sigma"] for matrix in taken)


@pytest.mark.reliability(28)
def test_first_argument_is_real(reached):
    """Generated samples that cover half of the real modes: all precise, half recalled."""
    modes = torch.tensor([[0.0, 0.0], [100.0, 0.0]], dtype=torch.float64)
    real = (modes[:, None] + normal(2, 100, 2)).flatten(0, 1)
    generated = modes[0] + 0.5 * normal(200, 2, seed=1)
    precision, recall = precision_recall(real, generated, k=5)
    assert precision > 0.95
    assert 0.2 < recall <= 0.5
    assert precision_recall(generated, real, k=5) == (recall, precision)
    reached.says("direction kept")


def test_kernel_distance():
    real, same, shifted = normal(600, 16), normal(600, 16, seed=1), normal(600, 16, seed=2) + 1
    mean, std = kernel_distance(real, same, num_subsets=20, subset_size=200, return_std=True)
    assert abs(mean) < 3 * std

    def seeded(seed):
        return kernel_distance(real, shifted, num_subsets=5, subset_size=100, seed=seed)

    # E k(x, y) in closed form for shift 1 in each of 16 dimensions: k = (x.y / 16 + 1)^3, x.y / 16 having variance v.
    within, across = 1 + 3 / 16, 1 + 3 * 2 / 16
    moved = (8 + 3 * 2 * (3 / 16)) + within - 2 * across
    assert kernel_distance(real, shifted, num_subsets=20, subset_size=200) == pytest.approx(moved, rel=0.35)
    assert seeded(3) == seeded(3)
    assert seeded(3) != seeded(4)


@pytest.mark.parametrize("counts", [(300, 200), (61, 400)])
def test_the_kernel_distance_of_all_pairs_is_that_of_torch_fidelitys_subsets(counts, monkeypatch):
    """Both ways, whatever the number of samples would choose; values of 100 sums of 30 x 30 kernels agree to 1e-12."""
    real, generated = normal(counts[0], 24), normal(counts[1], 24, seed=1) + 0.1
    settings = {"kid_subsets": 100, "kid_subset_size": 30, "rng_seed": 3, "verbose": False}
    expected = tuple(kid_features_to_metric(generated, real, **settings).values())
    monkeypatch.setattr(kernels, "BLOCK", 1000)
    discrepancies = kernels.discrepancies_of_subsets(generated, real, 100, 30, seed=3)
    assert (discrepancies.mean(), discrepancies.std(correction=0)) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    found = kernel_distance(real, generated, subset_size=30, seed=3, return_std=True)
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("num_subsets", "all_pairs"), [(100, True), (2, False)])
def test_the_kernel_is_computed_of_all_pairs_where_these_are_fewer(num_subsets, all_pairs, monkeypatch):
    called = []
    compute = distances.discrepancies_of_subsets
    monkeypatch.setattr(distances, "discrepancies_of_subsets", lambda *given: called.append(given) or compute(*given))
    kernel_distance(normal(80, 8), normal(80, 8, seed=1), num_subsets=num_subsets)
    assert bool(called) == all_pairs


@pytest.mark.reliability(28)
def test_too_few_samples_are_refused():
    few, many = normal(3, 4), normal(20, 4)
    with pytest.raises(ValueError, match="at least 2 samples"):
        frechet_distance(many, few[:1])
    with pytest.raises(ValueError, match=r"real: needs a matrix .* at least 4 samples"):
        precision_recall(few, many, k=3)
    with pytest.raises(ValueError, match="generated: needs"):
        kernel_distance(many, few)


@pytest.mark.parametrize("distance", [frechet_distance, precision_recall, kernel_distance])
def test_different_features_are_refused(distance):
    with pytest.raises(ValueError, match="do not match"):
        distance(normal(20, 4), normal(20, 5))
    broken = normal(20, 4)
    broken[3, 2] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        distance(broken, normal(20, 4))


@pytest.mark.reliability(28)
def test_fewer_samples_than_features_warn():
    with pytest.warns(UserWarning, match="10 samples for 12 features"):
        features_to_statistics(normal(10, 12))

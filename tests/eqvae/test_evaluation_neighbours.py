"""Neighbourhoods: those of torch-fidelity where it computes exactly, those of all differences where it does not."""

import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

from eqvae.evaluation import neighbours, precision_recall
from eqvae.evaluation.neighbours import samples_in_balls, squared_radii


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def of_torch_fidelity(real, generated, k):
    found = prc_features_to_metric(
        generated.double(), real.double(), prc_neighborhood=k, prc_batch_size=50, save_cpu_ram=True, verbose=False
    )
    return found["precision"], found["recall"]


def by_all_differences(samples, centres, k):
    """Who lies in a ball, in float64 from all differences."""
    distances = (samples.double()[:, None] - centres.double()).square().sum(2)
    own = (centres.double()[:, None] - centres.double()).square().sum(2)
    return (distances <= own.kthvalue(k + 1).values).any(1)


def whole_numbers(count, width, high, seed):
    """Points of a small grid: many duplicates and ties, and float64 products without rounding."""
    return torch.randint(high, (count, width), generator=torch.Generator().manual_seed(seed)).float()


SETS = {
    "apart": (normal(300, 40), 0.9 * normal(200, 40, seed=1)),
    "far from zero": (normal(300, 40) + 1000, 0.9 * normal(200, 40, seed=1) + 1000),
    "ties": (whole_numbers(300, 5, 4, 0), whole_numbers(200, 5, 4, 1)),
    "duplicates": (whole_numbers(60, 3, 3, 0).repeat(4, 1), whole_numbers(60, 3, 2, 1).repeat(3, 1)),
    "generated copies": (whole_numbers(200, 30, 9, 0), whole_numbers(200, 30, 9, 0)[:90]),
    "one generated image": (normal(200, 30), torch.zeros(100, 30)),
    "few": (normal(4, 9), normal(5, 9, seed=1)),
}


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("block", [2**13, neighbours.BLOCK])
def test_precision_and_recall_are_torch_fidelitys(which, block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    real, generated = SETS[which]
    for k in (1, 3):
        assert precision_recall(real, generated, k) == pytest.approx(of_torch_fidelity(real, generated, k), abs=1e-7)


@pytest.mark.parametrize("spread", [1e-3, 1e-6, 1e-9, 1e-30])
def test_clusters_too_tight_for_float32_are_told_apart_in_float64(spread):
    """Two clusters: each is small beside the distance between them, by which coordinates are scaled."""
    real, generated = (
        torch.cat([part * spread, 1 + spread * part.flip(1)]) for part in (normal(2, 60, 20, dtype=torch.float64))
    )
    for k in (1, 4):
        found = samples_in_balls(generated, real, k)
        assert torch.equal(found[0], by_all_differences(generated, real, k))
        assert torch.equal(found[1], by_all_differences(real, generated, k))


@pytest.mark.parametrize("factor", [1e-25, 1e30])
def test_units_do_not_matter(factor):
    real, generated = normal(2, 200, 10, dtype=torch.float64)
    assert precision_recall(real * factor, generated * factor) == precision_recall(real, generated)


def test_a_border_within_float32s_rounding_is_decided_exactly():
    """Samples at the radius itself, a little inside, and a little outside: less than float32 tells apart."""
    centres = normal(50, 600, dtype=torch.float64)
    radii = squared_radii(centres, 3).sqrt()
    away = torch.nn.functional.normalize(centres, dim=1)  # to where no other centre is
    for sign in (-1, 1):
        samples = centres + away * radii[:, None] * (1 + sign * 1e-10)
        own = samples_in_balls(samples, centres, 3)[0]
        assert torch.equal(own, by_all_differences(samples, centres, 3))
        assert bool(own.all()) == (sign < 0)


def test_few_pairs_are_taken_in_float64(monkeypatch):
    """What makes it fast: of 300 x 300 pairs, thousandths are left open."""
    counted = []
    exact = neighbours._squared_distances
    monkeypatch.setattr(neighbours, "_squared_distances", lambda *pairs: counted.append(len(pairs[1])) or exact(*pairs))
    samples_in_balls(normal(300, 64), normal(300, 64, seed=1), 3)
    assert sum(counted) < 1.05 * 2 * 300 * (3 + 1 + neighbours.RESERVE)


def test_all_distances_of_a_set_are_never_held_at_once(monkeypatch):
    """Two clusters that float64's products do not tell apart: their rows are taken a block at a time."""
    held, of_all = [], neighbours._nearest_of_all
    monkeypatch.setattr(
        neighbours, "_nearest_of_all", lambda side, count, error: held.append(count) or of_all(side, count, error)
    )
    samples = torch.cat([1e-9 * normal(30, 20, dtype=torch.float64), 1 + 1e-9 * normal(30, 20, dtype=torch.float64)])
    found = squared_radii(samples, 3)
    own = (samples[:, None] - samples).square().sum(2)
    assert torch.equal(found, own.kthvalue(4).values)
    assert held == [3 + 1 + neighbours.RESERVE] * 2

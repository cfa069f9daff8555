"""The panel of distances: the candidate's closed forms, what is degraded, and what the table says."""

import numpy as np
import pytest
import torch

from studies.distance_panel import WAYS, degraded_images, measure, monge_distance, separation, to_markdown

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upward")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_candidate_is_three_times_the_squared_shift():
    """And three times the change of spread: the mean over 1,000 directions lies within 5 standard deviations, 22 %."""
    real, shift = normal(200, 20), torch.linspace(-1, 2, 20)
    assert monge_distance(real, real[torch.randperm(200, generator=torch.Generator().manual_seed(1))]) == 0
    assert monge_distance(real, real + shift) == pytest.approx(3 * float(shift.square().sum()), rel=0.22)
    widened = float((real - 1.5 * real).square().sum(1).mean())
    assert monge_distance(real, 1.5 * real) == pytest.approx(3 * widened, rel=0.05)


def test_images_are_degraded_by_what_is_said():
    images = torch.randint(60, 200, (20, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    noisy = degraded_images(images, "noise", 5.0, seed=1).float() - images
    assert float(noisy.std()) == pytest.approx(5, rel=0.02)
    flat = torch.full_like(images, 77)
    assert torch.equal(degraded_images(flat, "blur", 0.5, seed=1), flat)
    spot = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    spot[..., 4, 4] = 255
    weights = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.5**2))
    row = degraded_images(spot, "blur", 0.5, seed=1)[0, 0, 4, 2:7]
    assert row.tolist() == (255 * weights * weights[2] / weights.sum() ** 2).round().tolist()


def test_worse_sets_are_told_from_better_ones():
    """Sets whose features move by 1 and by 2."""
    pools = {("real", 0): normal(200, 8), ("equal", 0): normal(200, 8, seed=1)}
    for number, way in enumerate(WAYS):
        pools |= {(way, level): normal(200, 8, seed=10 * number + level) + level for level in (1, 2)}
    lines = list(measure(pools, [60], num_draws=4))
    assert [(line["num_images"], line["distance"]) for line in lines] == [(60, "Fréchet"), (60, "KID"), (60, "MIND")]
    for line in lines:
        values = line["values"]
        assert len(values) == 7
        assert all(max(values[f"{way} 1"]) < min(values[f"{way} 2"]) for way in WAYS)
        assert max(values["equal 0"]) < min(values["noise 1"])
    assert list(measure(pools, [60], num_draws=4)) == lines


def test_the_table_says_bias_spread_and_order():
    draws = {"equal 0": [1.0, 3.0], "noise 1": [3.0, 5.0], "noise 2": [7.0, 9.0]}
    draws |= {f"{way} {level}": [float(level), level + 2.0] for way in WAYS[1:] for level in (1, 2)}
    assert separation(draws["noise 1"], draws["noise 2"]) == pytest.approx(4 / 2**0.5)
    row = to_markdown([{"num_images": 1000, "distance": "KID", "values": draws}]).splitlines()[-1]
    assert row == "| 1,000 | KID | 25 | 17.7 | 98 % (2.8) | 69 % (0.7) | 69 % (0.7) |"

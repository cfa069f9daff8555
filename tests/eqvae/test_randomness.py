"""Keyed random numbers: distribution, and what a row may depend on."""

import math

import pytest
import torch

from eqvae.randomness import _mix, _mix_signed, fold_keys, keyed_integers, keyed_normal, keyed_uniform

KEYS = torch.arange(2000)
DRAWS = {"uniform": keyed_uniform, "normal": keyed_normal}


def kolmogorov_smirnov(probabilities):
    """sqrt(n) times the largest distance between the empirical and the uniform distribution function."""
    ordered = probabilities.double().flatten().sort().values
    count = len(ordered)
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    distance = torch.maximum((ordered - steps[:-1]).abs().max(), (ordered - steps[1:]).abs().max())
    return float(distance) * math.sqrt(count)


def correlation(a, b):
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])


def test_uniform_moments_and_interval():
    u = keyed_uniform(KEYS, (50,), seed=0, stream="test").double()
    count = u.numel()
    assert u.min() > 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / count)
    assert abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / count)


def test_normal_moments():
    z = keyed_normal(KEYS, (50,), seed=0, stream="test").double()
    count = z.numel()
    assert abs(z.mean()) < 5 / math.sqrt(count)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs(z.pow(3).mean()) < 5 * math.sqrt(15 / count)
    assert abs(z.pow(4).mean() - 3) < 5 * math.sqrt(96 / count)


@pytest.mark.parametrize("step", [1, 7, 1 << 32])
def test_distribution_functions(step):
    """Over the keys of a column, over a whole row, and over everything: 2.5 is beyond one in 100,000."""
    keys = torch.arange(1000) * step
    uniform = keyed_uniform(keys, (20,), seed=1, stream="test")
    gaussian = torch.special.ndtr(keyed_normal(keys, (20,), seed=1, stream="test").double())
    for values in (uniform, uniform[:, 0], gaussian, gaussian[:, 0], gaussian[:, 1]):
        assert kolmogorov_smirnov(values) < 2.5
    row = keyed_uniform(keys[3:4], (5000,), seed=1, stream="test")
    assert kolmogorov_smirnov(row) < 2.5


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("shape", [(), (3,), (4, 5, 5)])
def test_rows_do_not_depend_on_the_batch(draw, shape):
    keys = torch.tensor([5, 0, 123456789012, 7, -3])
    whole = draw(keys, shape, seed=2, stream="test")
    assert whole.shape == (5, *shape)
    assert whole.dtype == torch.float32
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(draw(keys[order], shape, seed=2, stream="test"), whole[order])
    for row in range(5):
        assert torch.equal(draw(keys[row : row + 1], shape, seed=2, stream="test")[0], whole[row])


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_streams_seeds_keys_and_columns_are_unrelated(draw):
    base = draw(KEYS, (8,), seed=0, stream="one")
    bound = 5 / math.sqrt(base.numel())
    assert abs(correlation(base, draw(KEYS, (8,), seed=0, stream="two"))) < bound
    assert abs(correlation(base, draw(KEYS, (8,), seed=1, stream="one"))) < bound
    assert abs(correlation(base, draw(KEYS + 1, (8,), seed=0, stream="one"))) < bound
    columns = torch.corrcoef(base.T) - torch.eye(8)
    assert columns.abs().max() < 5 / math.sqrt(len(KEYS))


def test_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = keyed_normal(KEYS, (2,), seed=0, stream="test")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(keyed_normal(KEYS, (2,), seed=0, stream="test"), first)


def test_folded_keys_depend_on_order_and_do_not_collide():
    assert fold_keys(1, 2) != fold_keys(2, 1)
    assert fold_keys(1) != fold_keys(1, 0)
    a, b = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    folded = fold_keys(a.flatten(), b.flatten())
    assert len(folded.unique()) == 40_000
    assert torch.equal(fold_keys(7, torch.arange(3)), torch.stack([fold_keys(7, k) for k in range(3)]))
    first, second = (
        keyed_uniform(keys, seed=0, stream="test") for keys in (folded, fold_keys(b.flatten(), a.flatten()))
    )
    off_diagonal = a.flatten() != b.flatten()
    assert abs(correlation(first[off_diagonal], second[off_diagonal])) < 0.03


@pytest.mark.parametrize("high", [1, 7, 1000])
def test_integers_cover_their_range_evenly(high):
    drawn = keyed_integers(torch.arange(20_000), high, seed=0, stream="test")
    counts = torch.bincount(drawn, minlength=high).double()
    assert len(counts) == high
    expected = 20_000 / high
    chi_squared = float(((counts - expected).square() / expected).sum())
    assert chi_squared < high + 5 * math.sqrt(2 * high)


def splitmix_finalizer(word: int) -> int:
    """In Python's own numbers, from the paper."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def test_processors_and_devices_mix_the_same_words():
    ends = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63)])
    words = torch.cat((ends, torch.randint(-(2**63), 2**63 - 1, (1000,), generator=torch.Generator().manual_seed(0))))
    before = words.clone()
    mixed = _mix(words)
    assert torch.equal(mixed, _mix_signed(words))
    assert [word % 2**64 for word in mixed.tolist()] == [splitmix_finalizer(word % 2**64) for word in before.tolist()]
    assert torch.equal(words, before)

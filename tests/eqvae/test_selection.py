"""Parts of data sets: even over the whole, of every class, the same each time."""

import pytest
import torch

from eqvae.selection import describe_selection, evenly_spaced


@pytest.mark.parametrize(
    ("count", "total"), [(1, 1), (1, 10), (3, 10), (10, 10), (7, 1000), (999, 1000), (512, 50_000)]
)
def test_one_sample_of_each_even_stretch(count, total):
    ids = evenly_spaced(count, total)
    edges = [row * total // count for row in range(count + 1)]
    assert len(ids) == count
    assert all(low <= row < high for row, low, high in zip(ids.tolist(), edges, edges[1:], strict=False))
    assert torch.equal(evenly_spaced(count, total), ids)


def test_all_of_a_smaller_set():
    for count in (None, 5, 9):
        assert evenly_spaced(count, 5).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(0, 5).tolist() == []
    with pytest.raises(ValueError, match="cannot be negative"):
        evenly_spaced(-1, 5)


@pytest.mark.parametrize("labels", [torch.arange(2000) // 200, torch.arange(2000) % 10], ids=["sorted", "alternating"])
@pytest.mark.parametrize("count", [100, 200, 1000])
def test_every_class_gets_its_share(labels, count):
    """A stride of 2, 10 or 20 without a draw in each stretch would take half or a tenth of alternating classes."""
    shares = torch.bincount(labels[evenly_spaced(count, 2000)], minlength=10) / count
    deviation = (0.1 * 0.9 / count) ** 0.5  # of a purely random choice, the worse of the two
    assert (shares - 0.1).abs().max() < 4 * deviation


def test_results_name_it():
    assert describe_selection(2000, 50_000) == "2000 of 50000, evenly spaced"
    assert describe_selection(None, 500) == describe_selection(500, 500) == describe_selection(900, 500) == "all 500"

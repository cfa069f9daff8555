"""MaskGIT: Halton orders, schedules and sizes of the public implementations."""

import itertools

import pytest
import torch

from dit.backbones import TOKEN_BACKBONES, create_token_backbone, num_parameters
from dit.samplers.masked import confidence_totals, halton_order, halton_totals
from tests.fixtures import for_keys, load_fixture

PUBLISHED_MILLIONS = {"tiny": 23, "small": 69, "base": 142, "large": 480}


def each(totals):
    return [after - before for before, after in itertools.pairwise([0, *totals])]


@pytest.fixture(scope="module")
def tensors():
    return load_fixture("maskgit")[0]


@for_keys("maskgit", r"halton_order/(?P<side>\d+)")
def test_halton_order(tensors, key, side):
    assert torch.equal(halton_order(int(side)), tensors[key])


@for_keys("maskgit", r"halton_cumulative_tokens/steps=(?P<steps>\d+)/grid=(?P<side>\d+)")
def test_halton_schedule(tensors, key, steps, side):
    assert halton_totals(int(steps), int(side) ** 2) == tensors[key].tolist()


@for_keys("maskgit", r"confidence_tokens/(?P<schedule>\w+)/steps=(?P<steps>\d+)/grid=(?P<side>\d+)")
def test_cumulative_confidence_schedules(tensors, key, schedule, steps, side):
    assert confidence_totals(int(steps), int(side) ** 2, schedule, "cumulative") == tensors[key].tolist()


def test_first_cells_and_totals_as_published():
    first = [(8, 5), (4, 10), (12, 1), (2, 7), (10, 12), (6, 3), (14, 8), (1, 14), (9, 0), (5, 5)]
    assert list(map(tuple, halton_order(16)[:10].tolist())) == first
    assert halton_totals(8, 256) == [20, 41, 62, 85, 110, 138, 173, 256]
    assert halton_totals(32, 256)[-5:] == [173, 184, 198, 215, 256]


def test_counts_per_step_of_the_first_version():
    assert each(confidence_totals(8, 256)) == [1, 18, 26, 32, 38, 43, 48, 50]
    assert each(confidence_totals(12, 256)) == [1, 9, 13, 17, 19, 22, 24, 26, 28, 30, 32, 35]


@pytest.mark.parametrize("name", TOKEN_BACKBONES)
def test_published_sizes(name):
    with torch.device("meta"):
        backbone = create_token_backbone(name, num_codes=1024 if name == "MaskGIT-v1" else 16384)
    millions = num_parameters(backbone) / 1e6
    if name == "MaskGIT-v1":
        assert round(millions, 3) == 174.161
        assert backbone.bias.shape == (257, 2026)
    elif (size := name.rsplit("-", 1)[1]) in PUBLISHED_MILLIONS:
        assert round(millions) == PUBLISHED_MILLIONS[size]

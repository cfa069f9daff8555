"""Images that are drawn: once for all sources alike in a process, and the same however they come to be."""

import pytest
import torch

from eqvae.data import procedural
from eqvae.data.procedural import DRAWN_AT_ONCE, ProceduralSource
from eqvae.data.scenes import ScenesSource


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, (seed, first, last, size) of each part; nothing is kept from before."""
    monkeypatch.setattr(procedural, "_drawn", procedural._Drawn(1 << 20))
    return []


@pytest.fixture
def source_of(drawn):
    def draw(seed, indices, size):
        drawn.append((seed, int(indices[0]), int(indices[-1]), size))
        return (indices % 251).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, size, size).clone()

    members = {"name": "plain", "version": 1, "smallest_side": 1, "class_names": ["one"], "num_classes": 1}
    kind = type("Plain", (ProceduralSource,), members | {"draw": staticmethod(draw)})
    return lambda *arguments: kind(*arguments)


def test_equal_sources_are_drawn_once(source_of, drawn):
    first, second = source_of(20, 4, 7), source_of(20, 4, 7)
    assert torch.equal(first.images, second.images)
    assert source_of(15, 4, 7).images.shape == (15, 3, 4, 4)
    assert drawn == [(7, 0, 19, 4)]


def test_another_seed_or_size_is_another_set(source_of, drawn):
    for settings in ((20, 4, 7), (20, 4, 8), (20, 8, 7)):
        assert len(source_of(*settings).images) == 20
    assert len(drawn) == 3


def test_a_longer_source_goes_on_where_a_whole_part_ends(source_of, drawn):
    count = DRAWN_AT_ONCE + 100
    short = source_of(count, 4).images
    drawn.clear()
    longer = source_of(2 * DRAWN_AT_ONCE, 4).images
    assert drawn == [(0, DRAWN_AT_ONCE, 2 * DRAWN_AT_ONCE - 1, 4)]
    assert torch.equal(longer[:count], short)
    assert longer[:, 0, 0, 0].tolist() == [index % 251 for index in range(2 * DRAWN_AT_ONCE)]


def test_no_more_is_kept_than_may_be(source_of, drawn):
    large = (1 << 20) // (3 * 16 * 16) - 10  # images of nearly all the bytes
    for seed in (0, 1, 0):
        source_of(large, 16, seed).images.sum()
    assert [seed for seed, first, *_ in drawn if first == 0] == [0, 1, 0], "the one used last takes the place"
    assert len(source_of(2 * large, 16, 0).images) == 2 * large, "larger than all that is kept"
    assert sum(images.nbytes for images in procedural._drawn.sets.values()) <= 1 << 20


def test_scenes_are_those_of_a_source_that_is_drawn_alone(drawn):
    alone = ScenesSource(DRAWN_AT_ONCE + 40, 16)._draw_from(0)
    ScenesSource(30, 16).images.sum()
    assert torch.equal(ScenesSource(DRAWN_AT_ONCE + 40, 16).images, alone)

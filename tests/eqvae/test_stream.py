"""The stream of samples: every epoch a permutation, every step the same whatever the devices and workers."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from eqvae.stream import SampleOrder, SequentialBatches, StepSampler, training_loader


class Numbers:
    """A data set that returns what it was asked."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def get_batch(self, ids, keys):
        return {"index": ids, "value": ids.float() * 10}


def stub_trainer(max_steps=6, global_step=0, rank=0, world_size=1, accumulate_batches=1):
    return SimpleNamespace(
        max_steps=max_steps,
        global_step=global_step,
        global_rank=rank,
        world_size=world_size,
        accumulate_grad_batches=1,
        lightning_module=SimpleNamespace(accumulate_batches=accumulate_batches),
    )


def stream_of(**options):
    loader_options = {"batch_size": options.pop("batch_size", 4), "num_workers": options.pop("num_workers", 0)}
    return list(training_loader(Numbers(11), seed=3, trainer=stub_trainer(**options), **loader_options))


def assert_same_batches(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        assert set(a) == set(b)
        assert all(torch.equal(a[name], b[name]) for name in b)


def test_every_epoch_is_another_permutation():
    order = SampleOrder(100, seed=0)
    epochs = [order(torch.arange(100 * e, 100 * (e + 1))).tolist() for e in range(4)]
    for ids in epochs:
        assert sorted(ids) == list(range(100))
    assert len({tuple(ids) for ids in epochs}) == 4
    assert SampleOrder(100, seed=1)(torch.arange(100)).tolist() != epochs[0]


def test_order_is_a_function_of_the_position():
    order = SampleOrder(10, seed=0)
    whole = order(torch.arange(60))
    scattered = torch.tensor([59, 3, 31, 3, 0, 44])
    assert torch.equal(SampleOrder(10, seed=0)(scattered), whole[scattered])
    assert torch.equal(pickle.loads(pickle.dumps(order))(scattered), whole[scattered])


def test_two_replicas_see_the_global_batches_of_one():
    single = [list(batch) for batch in StepSampler(8, 5)]
    halves = [list(StepSampler(4, 5, rank=rank, num_replicas=2)) for rank in range(2)]
    assert [[*a, *b] for a, b in zip(*halves)] == single
    assert [p for batch in single for p in batch] == list(range(40))


def test_first_batch_skips_and_keeps_the_length():
    whole, resumed = StepSampler(4, 6), StepSampler(4, 6, first_batch=2)
    assert list(resumed) == list(whole)[2:]
    assert len(resumed) == len(whole) == 6


def test_workers_do_not_change_the_stream():
    assert_same_batches(stream_of(num_workers=2), stream_of(num_workers=0))


def test_resumed_loader_continues_the_stream():
    assert_same_batches(stream_of(global_step=4), stream_of()[4:])
    accumulated = {"max_steps": 4, "accumulate_batches": 3}
    assert_same_batches(stream_of(global_step=2, **accumulated), stream_of(**accumulated)[6:])


def test_replicas_and_accumulation_share_one_stream():
    whole = [batch["index"].tolist() for batch in stream_of(batch_size=8)]
    replicas = [stream_of(batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    assert [a["index"].tolist() + b["index"].tolist() for a, b in zip(*replicas)] == whole
    accumulated = [batch["index"].tolist() for batch in stream_of(batch_size=4, accumulate_batches=2)]
    assert [a + b for a, b in zip(accumulated[::2], accumulated[1::2])] == whole


def test_keys_are_positions_and_values_follow_the_order():
    batches = stream_of()
    keys = torch.cat([batch["key"] for batch in batches])
    assert torch.equal(keys, torch.arange(24))
    ids = torch.cat([batch["index"] for batch in batches])
    assert torch.equal(ids, SampleOrder(11, 3)(keys))
    assert torch.equal(torch.cat([batch["value"] for batch in batches]), ids.float() * 10)


def test_what_cannot_be_streamed_is_refused():
    with pytest.raises(ValueError, match="max_steps"):
        training_loader(Numbers(4), 2, 0, stub_trainer(max_steps=-1))
    with pytest.raises(ValueError, match="empty"):
        training_loader(Numbers(0), 2, 0, stub_trainer())


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("limit", "count"), [(None, 11), (5, 5), (99, 11)])
def test_sequential_batches(num_workers, limit, count):
    batches = list(SequentialBatches(Numbers(11), 4, limit).loader(num_workers))
    assert torch.equal(torch.cat([batch["index"] for batch in batches]), torch.arange(count))
    assert torch.equal(torch.cat([batch["key"] for batch in batches]), torch.arange(count))
    assert max(len(batch["key"]) for batch in batches) <= 4

"""The stream of samples: every epoch a permutation, every step the same whatever the devices and workers."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from eqvae.selection import evenly_spaced
from eqvae.stream import SampleOrder, SequentialBatches, StepSampler, describe_batch, training_loader


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


def stream_of(global_batch_size=4, num_workers=0, **options):
    trainer = stub_trainer(**options)
    return list(training_loader(Numbers(11), global_batch_size, seed=3, trainer=trainer, num_workers=num_workers))


def assert_same_batches(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        assert set(a) == set(b)
        assert all(torch.equal(torch.as_tensor(a[name]), torch.as_tensor(b[name])) for name in b)


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
    accumulated = {"max_steps": 4, "accumulate_batches": 3, "global_batch_size": 12}
    assert_same_batches(stream_of(global_step=2, **accumulated), stream_of(**accumulated)[6:])


@pytest.mark.parametrize(("devices", "accumulated"), [(2, 1), (1, 2), (4, 2), (2, 4), (8, 1)])
def test_devices_and_accumulation_divide_the_global_batch(devices, accumulated):
    whole = [batch["index"].tolist() for batch in stream_of(8)]
    parts = [stream_of(8, rank=rank, world_size=devices, accumulate_batches=accumulated) for rank in range(devices)]
    assert all(len(part) == 6 * accumulated for part in parts)
    assert all(len(batch["index"]) == 8 // (devices * accumulated) for part in parts for batch in part)
    order = [part[batch]["index"] for batch in range(6 * accumulated) for part in parts]
    assert torch.cat(order).view(6, 8).tolist() == whole


def test_a_global_batch_that_does_not_divide_is_refused():
    with pytest.raises(
        ValueError, match=r"global_batch_size 10 does not divide by 4 devices x 2 accumulated .* use 8,"
    ):
        stream_of(10, world_size=4, accumulate_batches=2)
    with pytest.raises(ValueError, match="global_batch_size 0 does not divide"):
        stream_of(0)
    trainer = stub_trainer(world_size=8, accumulate_batches=2)
    assert describe_batch(160, trainer) == "global batch 160 = 8 devices x 2 accumulated x 10 per device"


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
    assert torch.equal(torch.cat([batch["index"] for batch in batches]), evenly_spaced(count, 11))
    assert torch.equal(torch.cat([batch["key"] for batch in batches]), evenly_spaced(count, 11))
    assert max(len(batch["key"]) for batch in batches) <= 4


@pytest.mark.parametrize(
    ("limit_batches", "limit", "count", "length"),
    [(1.0, None, 100, 13), (3, None, 24, 3), (0.5, None, 48, 13), (99, 20, 20, 3), (2, 20, 16, 2), (0.4, 20, 8, 3)],
)
def test_lightning_s_limit_takes_evenly_spaced_samples(limit_batches, limit, count, length):
    """Lightning reads the first batches: an int of them, or a share of the loader's length."""
    batches = SequentialBatches(Numbers(100), 8, limit, limit_batches)
    loader = batches.loader()
    assert len(loader) == length
    taken = min(limit_batches, length) if isinstance(limit_batches, int) else int(length * limit_batches)
    read = torch.cat([batch["index"] for batch, _ in zip(loader, range(taken))])
    assert torch.equal(read, evenly_spaced(count, 100))
    assert batches.count_images(taken) == count

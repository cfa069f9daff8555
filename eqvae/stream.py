"""The endless, shuffled stream of training samples, addressed by position.

A run consumes positions 0, 1, 2, ... in order: step s of global batch size G takes s G ... (s + 1) G - 1. A position
determines the sample (`SampleOrder`) and is the key of every random number drawn for it, so what a step sees depends
on (seed, step) alone: not on workers, devices, accumulation or how often the run was stopped and resumed. Recipes state
the global batch; devices and accumulated batches divide it among themselves.
"""

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from eqvae.selection import evenly_spaced


class BatchedDataset(Protocol):
    """A data set that is read in whole batches, of images as of latents."""

    def __len__(self) -> int: ...

    def get_batch(self, ids: torch.Tensor, keys: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Tensors [B, ...] of the samples `ids` [B].

        Args:
            keys: [B], positions in the stream, which key what is drawn for each; None reads without any draw.
        """
        ...


class SampleOrder:
    """Maps positions to sample ids: one permutation of the data set per pass over it.

    Args:
        num_samples: size of the data set.
        seed: of the permutations.
    """

    def __init__(self, num_samples: int, seed: int):
        self.num_samples, self.seed = num_samples, seed
        self._permutation = lru_cache(maxsize=2)(self._draw_permutation)

    def _draw_permutation(self, epoch: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.num_samples)

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """Sample ids [B] of positions [B]."""
        epochs, rows = positions // self.num_samples, (positions % self.num_samples).numpy()
        ids = np.empty(len(rows), dtype=np.int64)
        for epoch in epochs.unique().tolist():
            mask = (epochs == epoch).numpy()
            ids[mask] = self._permutation(epoch)[rows[mask]]
        return torch.from_numpy(ids)

    def __getstate__(self):
        return {"num_samples": self.num_samples, "seed": self.seed}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(**state)


class StepSampler(Sampler):
    """Yields the positions of each batch from `first_batch` on; its length is that of the whole run.

    Lightning restores how many batches are done and compares it with the length, so a resumed run's sampler keeps the
    full length and starts later.

    Args:
        batch_size: per device and batch.
        num_batches: of the whole run, per device.
        first_batch: batches done before.
        rank, num_replicas: this process and how many there are; each takes its part of every global batch.
    """

    def __init__(self, batch_size: int, num_batches: int, first_batch: int = 0, rank: int = 0, num_replicas: int = 1):
        self.batch_size, self.num_batches, self.first_batch = batch_size, num_batches, first_batch
        self.rank, self.num_replicas = rank, num_replicas

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[range]:
        for batch in range(self.first_batch, self.num_batches):
            start = (batch * self.num_replicas + self.rank) * self.batch_size
            yield range(start, start + self.batch_size)


class StreamDataset(torch.utils.data.Dataset):
    """A data set read by positions of the stream, whole batches at a time.

    Args:
        dataset: of the samples.
        seed: of the order.
    """

    def __init__(self, dataset: BatchedDataset, seed: int):
        self.dataset, self.order = dataset, SampleOrder(len(dataset), seed)

    def __getitems__(self, positions: range) -> dict[str, torch.Tensor]:
        """A batch with its positions `key` [B], and `first_key`, the first of them as a number."""
        keys = torch.arange(positions.start, positions.stop)
        return self.dataset.get_batch(self.order(keys), keys) | {"key": keys, "first_key": positions.start}


def whole_batch(batch: dict) -> dict:
    """Collate function of data sets that return whole batches."""
    return batch


class TimedLoader(DataLoader):
    """A DataLoader that keeps `seconds_waited`, how long whoever reads it has waited for batches."""

    seconds_waited = 0.0

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        batches = super().__iter__()
        begin = time.perf_counter()
        for batch in batches:
            self.seconds_waited += time.perf_counter() - begin
            yield batch
            begin = time.perf_counter()


def training_loader(
    dataset: BatchedDataset, global_batch_size: int, seed: int, trainer: Any, num_workers: int = 0
) -> DataLoader:
    """Loader of a whole run as one epoch, starting where the trainer stands; it tells how long it was waited for.

    Args:
        dataset: of the samples.
        global_batch_size: samples per optimizer step.
        trainer: Lightning's, with `max_steps` set; its restored `global_step` tells the first batch.

    Raises:
        ValueError: if max_steps is missing, the data set is empty, or the global batch does not divide.
    """
    if trainer.max_steps < 1:
        raise ValueError("trainer.max_steps must be set: training counts steps, not epochs")
    if len(dataset) == 0:
        raise ValueError("the training set is empty: check the data source")
    sampler = StepSampler(
        batch_size_per_device(global_batch_size, trainer),
        trainer.max_steps * batches_per_step(trainer),
        trainer.global_step * batches_per_step(trainer),  # checkpoints are saved at step boundaries alone
        trainer.global_rank,
        trainer.world_size,
    )
    return TimedLoader(
        StreamDataset(dataset, seed),
        batch_sampler=sampler,
        collate_fn=whole_batch,  # pyright: ignore[reportArgumentType]  (`__getitems__` gives whole batches, no lists)
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
    )


def batches_per_step(trainer: Any) -> int:
    """Accumulated batches per optimizer step; modules that step by themselves say it in their own attribute."""
    return getattr(trainer.lightning_module, "accumulate_batches", trainer.accumulate_grad_batches)


def divide_batch(global_batch_size: int, devices: int, accumulated: int) -> int:
    """Samples that one device sees at once, of those of an optimizer step.

    Raises:
        ValueError: if devices and accumulated batches do not divide the global batch.
    """
    parts = devices * accumulated
    if global_batch_size < 1 or global_batch_size % parts:
        nearest = max(1, round(global_batch_size / parts)) * parts
        raise ValueError(
            f"data.init_args.global_batch_size {global_batch_size} does not divide by {devices} devices x "
            f"{accumulated} accumulated batches: use {nearest}, or other devices or accumulation"
        )
    return global_batch_size // parts


def batch_size_per_device(global_batch_size: int, trainer: Any) -> int:
    """`divide_batch` by what a trainer runs on."""
    return divide_batch(global_batch_size, trainer.world_size, batches_per_step(trainer))


def describe_batch(global_batch_size: int, trainer: Any) -> str:
    """One line for the start of a run: what a step is made of."""
    return (
        f"global batch {global_batch_size} = {trainer.world_size} devices x {batches_per_step(trainer)} accumulated x "
        f"{batch_size_per_device(global_batch_size, trainer)} per device"
    )


class SequentialBatches(torch.utils.data.Dataset):
    """A data set cut into consecutive batches, in index order, for validation and prediction.

    Args:
        dataset: of the samples, read without draws.
        batch_size: of each but the last.
        limit: read only this many samples, evenly spaced; None reads all.
        limit_batches: Lightning's limit, a number of batches or a share of them: these are evenly spaced, too.
    """

    def __init__(
        self, dataset: BatchedDataset, batch_size: int, limit: int | None = None, limit_batches: int | float = 1.0
    ):
        self.dataset, self.batch_size = dataset, batch_size
        wanted = len(dataset) if limit is None else min(limit, len(dataset))
        self._length = -(-wanted // batch_size)
        if isinstance(limit_batches, int):
            self._length = num_batches = min(self._length, limit_batches)
        else:
            num_batches = int(self._length * limit_batches)
        self.ids = evenly_spaced(min(wanted, num_batches * batch_size), len(dataset))

    def __len__(self) -> int:
        """Batches that are read."""
        return -(-len(self.ids) // self.batch_size)

    def count_images(self, num_batches: float) -> int:
        """Images in the first so many batches."""
        return int(min(len(self.ids), num_batches * self.batch_size))

    def rows(self, batch: int) -> slice:
        """Where the samples of a batch stand among those that are read."""
        if not 0 <= batch < len(self):
            raise IndexError(batch)
        return slice(batch * self.batch_size, (batch + 1) * self.batch_size)

    def __getitem__(self, batch: int) -> dict[str, torch.Tensor]:
        ids = self.ids[self.rows(batch)]
        return self.dataset.get_batch(ids, None) | {"key": ids}

    def loader(self, num_workers: int = 0, rows: range | None = None) -> DataLoader:
        """All batches, or those that hold any of `rows`; one at least, since Lightning refuses an empty loader."""
        batches = list(range(len(self)))
        batches += [0] * (self._length - len(batches))  # never read: Lightning takes its share of the whole length
        if rows is not None:
            first = rows.start // self.batch_size
            batches = range(first, max(first + 1, -(-rows.stop // self.batch_size)))
        pin_memory = torch.cuda.is_available()
        num_workers = min(num_workers, len(batches))  # others would have nothing to do but to start
        return DataLoader(self, batch_size=None, sampler=batches, num_workers=num_workers, pin_memory=pin_memory)

"""Networks row by row the same, whatever batch a row comes in.

Matrix products and convolutions choose their kernels by the size of the batch and by the number of threads, and every
kernel rounds in its own order: one image in a batch of 3 and in one of 100 differs in the last bits. On a processor
rows therefore pass in batches of ROWS, the last one filled up, each on one thread, several batches side by side. Row i
is then the same for any number of rows, threads and processes, as long as rows keep their place modulo ROWS. On an
accelerator, where so small a batch would waste it, rows pass in the batches that are asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

ROWS = 10
"""Of a batch on a processor. 50, 100 and 1,000 images leave nothing to fill up; few are shared by several processes.

Narrow networks would be faster in larger batches (docs/speed.md).
"""

Function = Callable[..., tuple[Tensor, ...]]


def whole_batches(num_rows: int) -> int:
    """`num_rows`, or the next number of rows that makes whole batches of ROWS."""
    return -(-num_rows // ROWS) * ROWS


def map_rows(function: Function, *rows: Tensor, device: torch.device, batch_size: int) -> tuple[Tensor, ...]:
    """Outputs [N, ...] on the CPU of a function of rows, in the batches that the device calls for.

    Args:
        function: of tensors [B, ...], one for each of `rows`, to a tuple of tensors [B, ...]; called from several
            threads at once on a processor.
        rows: tensors [N, ...], N at least 1.
        device: where the function computes.
        batch_size: of accelerators.
    """
    if device.type != "cpu":
        return _joined([function(*batch) for batch in _split(rows, batch_size)])
    batches = [tuple(_filled_up(part) for part in batch) for batch in _split(rows, ROWS)]
    with _one_thread_each(len(batches)) as pool:
        outputs = _joined(list(pool.map(lambda batch: function(*batch), batches)))
    return tuple(output[: len(rows[0])] for output in outputs)


def regroup(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The rows of a stream of batches [B, ...] in groups of `size`, the last one shorter."""
    waiting: list[Tensor] = []
    for batch in batches:
        waiting.append(batch)
        while sum(map(len, waiting)) >= size:
            rows = torch.cat(waiting)
            waiting = [rows[size:]]
            yield rows[:size]
    if sum(map(len, waiting)):
        yield torch.cat(waiting)


def _split(rows: tuple[Tensor, ...], size: int) -> list[tuple[Tensor, ...]]:
    return list(zip(*(part.split(size) for part in rows), strict=True))


def _filled_up(rows: Tensor) -> Tensor:
    """To ROWS, with copies of the last row: an image like others, so that nothing overflows on it."""
    missing = ROWS - len(rows)
    return torch.cat((rows, rows[-1:].expand(missing, *rows.shape[1:]))) if missing else rows


def _joined(outputs: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat([part.cpu() for part in parts]) for parts in zip(*outputs, strict=True))


@contextmanager
def _one_thread_each(num_batches: int) -> Iterator[ThreadPoolExecutor]:
    """Workers that compute on one thread each, as many as this process has threads."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what threads that start now begin with
    try:
        initializer = lambda: torch.set_num_threads(1)  # noqa: E731
        with ThreadPoolExecutor(min(num_threads, num_batches), initializer=initializer) as pool:
            yield pool
    finally:
        torch.set_num_threads(num_threads)

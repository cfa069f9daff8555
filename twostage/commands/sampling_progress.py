"""The progress line of sampling: it goes on with every step of the sampler, not only with every batch."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from torch import Tensor

from dit.sample_files import SampleFolder
from dit.samplers.sampler import Callback
from eqvae.progress import ProgressLine


class SamplingProgress:
    """Images made, images a second, and the time left, of a sample folder.

    Args:
        folder: that fills; of several processes each shows what is missing from it at the start.
        num_steps: of the sampler. One that takes other steps than it is told goes at its own pace within a batch.
    """

    def __init__(self, folder: SampleFolder, num_steps: int):
        total, missing = folder.settings["num_images"], sum(map(len, folder.missing()))
        self.line = ProgressLine("sampling", total, total - missing)
        self.num_steps = num_steps
        self._lock = threading.Lock()

    def __enter__(self) -> "SamplingProgress":
        self.line.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.line.stop()

    @contextmanager
    def part(self, num_images: int) -> Iterator[Callback]:
        """What a sampler tells of its steps, while a part of so many images is made."""
        end = self.line.done + num_images

        def stepped(step: int, x: Tensor, time: float) -> None:
            with self._lock:
                self.line.update(min(self.line.done + len(x) / self.num_steps, end))

        yield stepped
        self.line.update(end)

"""What image sources that draw their images have in common."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

DRAWN_AT_ONCE = 512
KEPT_BYTES = 256 << 20  # of images that sources of one process share: the parts of a sweep read the same ones


class _Drawn:
    """Images that were drawn in this process, the last used ones up to so many bytes; a shorter set begins a longer."""

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self.lock = threading.Lock()
        self.sets: OrderedDict[tuple, Tensor] = OrderedDict()

    def take(self, key: tuple, count: int, draw: Callable[[int], Tensor]) -> Tensor:
        """The first `count` images of a set.

        Args:
            draw: those from a number on, which the images do not depend on.
        """
        with self.lock:
            there = self.sets.pop(key, None)
            if there is None or len(there) < count:
                whole = 0 if there is None else len(there) // DRAWN_AT_ONCE * DRAWN_AT_ONCE
                drawn = draw(whole)
                there = torch.cat((there[:whole], drawn)) if there is not None and whole else drawn
            if there.nbytes <= self.most_bytes:
                self.sets[key] = there
            while sum(images.nbytes for images in self.sets.values()) > self.most_bytes:
                self.sets.popitem(last=False)
            return there if len(there) == count else there[:count].clone()  # a view would be pickled with all the rest


_drawn = _Drawn(KEPT_BYTES)


class ProceduralSource:
    """Images that are a function of (seed, index); drawn at first use and kept in memory, once for all sources alike.

    A subclass sets `name`, `version` (raised when the same seed draws other images), `smallest_side`, `class_names`,
    `num_classes`, and `draw(seed, indices, size)`, which gives uint8 [N, 3, size, size]; the class of an image is its
    index modulo the number of classes.

    Args:
        num_images: how many.
        image_size: side in pixels.
        seed: of the images; another seed gives other images of the same classes.
        num_threads: that draw side by side; the images do not depend on it.
    """

    name: str
    version: int
    smallest_side: int
    class_names: list[str]
    num_classes: int
    draw: Callable[[int, Tensor, int], Tensor]

    def __init__(self, num_images: int, image_size: int = 32, seed: int = 0, num_threads: int = 2):
        if num_images < 1 or image_size < self.smallest_side:
            raise ValueError(
                f"{self.name} need num_images >= 1 and image_size >= {self.smallest_side}, "
                f"got {num_images} and {image_size}"
            )
        self.num_images, self.image_size, self.seed, self.num_threads = num_images, image_size, seed, num_threads
        self._images: Tensor | None = None

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """uint8 [3, S, S] and the class of one image."""
        if not 0 <= index < self.num_images:
            raise IndexError(index)
        return self.images[index], index % self.num_classes

    @property
    def images(self) -> Tensor:
        """All images, uint8 [N, 3, S, S]."""
        if self._images is None:
            key = (type(self), self.seed, self.image_size)
            self._images = _drawn.take(key, self.num_images, self._draw_from)
        return self._images

    def _draw_from(self, first: int) -> Tensor:
        parts = torch.arange(first, self.num_images).split(DRAWN_AT_ONCE)
        with ThreadPoolExecutor(self.num_threads) as pool:  # numpy releases the interpreter lock
            return torch.cat(list(pool.map(lambda part: self.draw(self.seed, part, self.image_size), parts)))

    def fingerprint(self) -> str:
        """sha256 of what defines the images."""
        about = f"{self.name}/{self.version}/{self.num_images}/{self.image_size}/{self.seed}"
        return hashlib.sha256(about.encode()).hexdigest()

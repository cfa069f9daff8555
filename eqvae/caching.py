"""What `predict` does: the images of a data module into caches, by one process or several."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.latents import CachePlan, ShardWriter, create_cache_writer


@dataclass(frozen=True)
class LatentCaching:
    """Where and how `predict` of an autoencoder writes latent caches.

    Args:
        folder: of the cache; null: `latents` in the trainer's root folder. That of the validation images lies beside
            it, `-validation` behind its name.
        validation: whether validation images are cached, too, where the data module has some of its own.
        dtype: "float16", "bfloat16" or "float32" of the stored latents.
        content: "moments", of which every read draws a fresh sample, or one "sample" of half the size.
        encoding_precision: "float32" or "bfloat16" of the encoder, whatever the trainer's precision is; see
            `eqvae.precision.encoding`.
        tile_size: side in pixels of the tiles that larger images are encoded in, for memory; null encodes them whole.
            Latents differ a little where tiles meet, and the cache says so.
    """

    folder: str | None = None
    validation: bool = True
    dtype: str = "float16"
    content: str = "moments"
    encoding_precision: Literal["float32", "bfloat16"] = "float32"
    tile_size: int | None = None

    @property
    def plan(self) -> CachePlan:
        return CachePlan(validation=self.validation)

    def path(self, root: str | Path) -> Path:
        """Where `predict` leaves the cache of the training images."""
        return Path(self.folder) if self.folder else Path(root) / "latents"

    def begin(self, trainer: Any, autoencoder: Autoencoder) -> "CacheRun":
        """Open the caches of the trainer's images; errors as of `create_cache_writer`."""
        folder = self.path(trainer.default_root_dir)
        if self.tile_size is not None:
            autoencoder.encode_in_tiles(self.tile_size)

        def open_writer(split: str, **options: Any) -> ShardWriter:
            place = folder if split == "train" else folder.with_name(f"{folder.name}-{split}")
            dataset = trainer.datamodule.description(split)
            settings = (self.dtype, self.content, self.encoding_precision, self.tile_size)
            return create_cache_writer(place, autoencoder, dataset, *settings, **options)

        return CacheRun(trainer, open_writer)


class ReleasesCaches(Callback):
    """Gives up the locks of a predicting module's `cache_run` however its run ends; Lightning tells modules nothing."""

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "predict")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if pl_module.cache_run is not None:
            pl_module.cache_run.release()


class CacheRun:
    """Caches that are being written, one for each of the data module's `cached_splits`.

    Args:
        trainer: Lightning's, which predicts.
        open_writer: called with a split and this process's `rank` and `num_replicas`.
    """

    def __init__(self, trainer: Any, open_writer: Callable[..., ShardWriter]):
        self._barrier = trainer.strategy.barrier
        if not trainer.is_global_zero:  # which clears what a killed process left
            self._barrier("caches opened")
        place = {"rank": trainer.global_rank, "num_replicas": trainer.world_size}
        self._writers: list[ShardWriter] = []
        try:
            for split in trainer.datamodule.cached_splits:
                self._writers.append(open_writer(split, **place))
        except BaseException:
            self.release()
            raise
        if trainer.is_global_zero:
            self._barrier("caches opened")
        self._started, self._num_read = time.perf_counter(), 0

    def add(self, batch: dict[str, Tensor], loader: int = 0) -> None:
        """A batch of one of the loaders, which are those of the splits."""
        self._writers[loader].add(batch)
        self._num_read += len(batch["index"])

    def release(self) -> None:
        """Give up the caches' locks, also of a run that failed: the process may try again."""
        for writer in self._writers:
            writer.release()

    def finish(self) -> None:
        """Make the folders caches; errors as of `ShardWriter.finish`."""
        for writer in self._writers:
            writer.finish(wait=self._barrier)
            rank_zero_info(f"{writer.format.what}: {writer.folder}, {writer.dataset['num_images']} images")
        speed = self._num_read / (time.perf_counter() - self._started)
        rank_zero_info(f"{self._num_read} images cached, {speed:.1f} per second and process")

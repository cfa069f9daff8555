"""Writes the feature cache: `train.py predict` with this module and the images of the latent cache."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning
from torch import Tensor

from dit.alignment.encoders import Encoder
from eqvae.caching import CacheRun, ReleasesCaches
from eqvae.fixed_batches import map_rows
from eqvae.latents import CachePlan, FeatureRows, ShardWriter
from eqvae.precision import require_float32_weights
from eqvae.training.data_module import data_module


class FeatureCacheModule(lightning.LightningModule):
    """`predict` writes tokens of all training images and of their flips; nothing is trained.

    Args:
        encoder: of the tokens.
        grid: tokens per side; latent side over the generator's patch size.
        folder: of the cache; null: `features` in the trainer's root folder.
        dtype: "float16", "bfloat16" or "float32".
        encoding_precision: "float32" or "bfloat16" of the encoder, whatever the trainer's precision is.
    """

    cache_run: CacheRun | None = None

    def __init__(
        self,
        encoder: Encoder,
        grid: int,
        folder: str | None = None,
        dtype: str = "float16",
        encoding_precision: str = "float32",
    ):
        super().__init__()
        self.encoding_precision = encoding_precision
        if grid < 1:
            raise ValueError(f"grid must be positive, got {grid}")
        self.encoder, self.grid, self.folder, self.dtype_name = encoder, grid, folder, dtype
        self.cache_plan = CachePlan(FeatureRows.shard_rows)

    def cache_path(self, root: str | Path) -> Path:
        """Where `predict` in a run folder leaves its cache."""
        return Path(self.folder) if self.folder else Path(root) / "features"

    def configure_callbacks(self) -> list[ReleasesCaches]:
        return [ReleasesCaches()]

    def setup(self, stage: str) -> None:
        require_float32_weights(self.trainer.precision)  # others round the images, too

    def on_predict_start(self) -> None:
        description = {
            "name": self.encoder.name,
            "fingerprint": self.encoder.fingerprint(self.grid),
            "grid": self.grid,
            "width": self.encoder.width,
        }
        rows = FeatureRows(self._encode, description, self.dtype_name, self.encoding_precision)
        folder = self.cache_path(self.trainer.default_root_dir)

        def open_writer(split: str, **options: Any) -> ShardWriter:
            return ShardWriter(folder, rows, data_module(self.trainer).description(split), **options)

        self.cache_run = CacheRun(self.trainer, open_writer)

    def _encode(self, images: Tensor) -> Tensor:
        """Tokens where the images are; on a processor in small batches, whose tensors lie on the heap."""
        encode = partial(self.encoder, grid=self.grid, precision=self.encoding_precision)
        if images.device.type != "cpu":
            return encode(images)
        (tokens,) = map_rows(lambda rows: (encode(rows),), images, device=images.device, batch_size=len(images))
        return tokens

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        assert self.cache_run is not None, "begun before"
        self.cache_run.add(batch)

    def on_predict_end(self) -> None:
        assert self.cache_run is not None, "begun before"
        self.cache_run.finish()

    def training_step(self, *args: Any) -> None:
        raise ValueError("this module only writes a feature cache: use train.py predict")

    def configure_optimizers(self) -> None:
        return None

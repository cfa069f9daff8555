"""Pictures in: one door that opens and converts them, sources that list them, the data module of stage 1.

`images` opens, orients, converts, crops; `sources` reads folders and parquet files, `tars`
tar files; `shapes` and `scenes` draw procedural
images; `module` cuts batches addressed by step.
"""

from eqvae.data.images import center_crop, open_image, random_crop, to_float, to_uint8
from eqvae.data.module import ImageDataModule
from eqvae.data.opening import open_source, read_pictures
from eqvae.data.scenes import ScenesSource
from eqvae.data.shapes import ShapesSource
from eqvae.data.sources import FolderSource, ImageSource, InMemorySource, ParquetSource
from eqvae.data.tars import TarSource

__all__ = [
    "FolderSource",
    "ImageDataModule",
    "ImageSource",
    "InMemorySource",
    "ParquetSource",
    "ScenesSource",
    "ShapesSource",
    "TarSource",
    "center_crop",
    "open_image",
    "open_source",
    "random_crop",
    "read_pictures",
    "to_float",
    "to_uint8",
]

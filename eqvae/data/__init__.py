"""Pictures in: one door that opens and converts them, sources that list them, the data module of stage 1.

`images` opens, orients, converts, crops; `sources` reads folders and parquet files; `shapes` draws procedural
pictures; `module` cuts batches addressed by step.
"""

from eqvae.data.images import center_crop, open_image, to_float, to_uint8
from eqvae.data.module import ImageDataModule
from eqvae.data.opening import open_source, read_pictures
from eqvae.data.shapes import ShapesSource
from eqvae.data.sources import FolderSource, ImageSource, InMemorySource, ParquetSource

__all__ = [
    "FolderSource",
    "ImageDataModule",
    "ImageSource",
    "InMemorySource",
    "ParquetSource",
    "ShapesSource",
    "center_crop",
    "open_image",
    "open_source",
    "read_pictures",
    "to_float",
    "to_uint8",
]

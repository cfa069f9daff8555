"""Images in: one door that opens and converts them, sources that list them, the data module of stage 1.

`images` opens, orients, converts, crops; `encoded` decodes on access and reports damaged files; `folders`, `parquet`
and `tars` read files, which `remote` fetches, and `hub` data sets; `shapes` and `scenes` draw procedural images;
`module` cuts batches addressed by step.
"""

from eqvae.data.encoded import find_unreadable
from eqvae.data.folders import FolderSource
from eqvae.data.hub import HubSource
from eqvae.data.images import adm_random_crop, center_crop, eq_vae_random_crop, open_image, to_float, to_uint8
from eqvae.data.module import ImageDataModule
from eqvae.data.opening import open_source, read_images
from eqvae.data.parquet import ParquetSource
from eqvae.data.scenes import ScenesSource
from eqvae.data.shapes import ShapesSource
from eqvae.data.sources import ImageSource, InMemorySource
from eqvae.data.tars import TarSource

__all__ = [
    "FolderSource",
    "HubSource",
    "ImageDataModule",
    "ImageSource",
    "InMemorySource",
    "ParquetSource",
    "ScenesSource",
    "ShapesSource",
    "TarSource",
    "adm_random_crop",
    "center_crop",
    "eq_vae_random_crop",
    "find_unreadable",
    "open_image",
    "open_source",
    "read_images",
    "to_float",
    "to_uint8",
]

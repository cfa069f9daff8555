"""Stage 1: autoencoders whose latents scale and rotate as images do, and the means to measure them.

What stands here is what a notebook needs of it; each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from eqvae.lazy import pass_on

if TYPE_CHECKING:
    from eqvae.autoencoders import Autoencoder, load_autoencoder
    from eqvae.data import open_source, read_images, to_uint8
    from eqvae.data.given import to_images
    from eqvae.equivariance import SpatialTransform, equivariance_errors
    from eqvae.evaluation.displaying import equivariance_panel, images_to_pil
    from eqvae.evaluation.measuring import measure_latents, measure_reconstruction
    from eqvae.evaluation.tables import comparison_table, result_table
    from eqvae.fine_tuning import cache_latents, fine_tune
    from eqvae.latents import open_cache

__all__ = [
    "Autoencoder",
    "SpatialTransform",
    "cache_latents",
    "comparison_table",
    "equivariance_errors",
    "equivariance_panel",
    "fine_tune",
    "images_to_pil",
    "load_autoencoder",
    "measure_latents",
    "measure_reconstruction",
    "open_cache",
    "open_source",
    "read_images",
    "result_table",
    "to_images",
    "to_uint8",
]

__getattr__, __dir__ = pass_on(
    __name__,
    {
        "Autoencoder": "eqvae.autoencoders",
        "load_autoencoder": "eqvae.autoencoders",
        "open_source": "eqvae.data",
        "read_images": "eqvae.data",
        "to_uint8": "eqvae.data",
        "to_images": "eqvae.data.given",
        "SpatialTransform": "eqvae.equivariance",
        "equivariance_errors": "eqvae.equivariance",
        "equivariance_panel": "eqvae.evaluation.displaying",
        "images_to_pil": "eqvae.evaluation.displaying",
        "measure_latents": "eqvae.evaluation.measuring",
        "measure_reconstruction": "eqvae.evaluation.measuring",
        "comparison_table": "eqvae.evaluation.tables",
        "result_table": "eqvae.evaluation.tables",
        "cache_latents": "eqvae.fine_tuning",
        "fine_tune": "eqvae.fine_tuning",
        "open_cache": "eqvae.latents",
    },
)

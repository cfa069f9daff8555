"""Images that show themselves in a notebook: a grid, and an autoencoder under transformation."""

from collections.abc import Mapping, Sequence

from PIL import Image
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.data.given import ImageLike, to_images
from eqvae.data.images import to_uint8
from eqvae.evaluation.image_grids import GRID_COLUMNS, autoencoder_panel, autoencoder_panels, image_grid, to_pillow

MOST_SHOWN = 100  # images in a grid


def images_to_pil(images: ImageLike | Sequence[ImageLike], columns: int = GRID_COLUMNS) -> Image.Image:
    """Images side by side, as one image of Pillow's, which a notebook shows.

    Args:
        images: what `eqvae.to_images` takes, or what an autoencoder has decoded, whose floats may leave [-1, 1]. Small
            ones are enlarged, of more than 100 the first are shown.
        columns: images in a row.
    """
    shown = images if isinstance(images, Tensor) and images.is_floating_point() else to_images(images)
    shown = shown[None] if shown.ndim == 3 else shown
    return to_pillow(image_grid(to_uint8(shown[:MOST_SHOWN].detach().cpu()), min(columns, len(shown))))


def equivariance_panel(
    autoencoders: Autoencoder | Mapping[str, Autoencoder], images: ImageLike | Sequence[ImageLike]
) -> Image.Image:
    """Images, latents and reconstructions, and the same turned and halved: see `autoencoder_panel`.

    Args:
        autoencoders: one, or several by their names, which are drawn below each other.
        images: a few, what `eqvae.to_images` takes.

    Raises:
        ValueError: as of `to_images`, and for sides that the autoencoder does not take.
    """
    several = autoencoders if isinstance(autoencoders, Mapping) else {"": autoencoders}
    batch = to_images(images)
    for each in several.values():
        for side in batch.shape[-2:]:
            each.require_image_size(side, "images: side")
    batch = batch.to(next(iter(several.values())).last_layer.device)
    if isinstance(autoencoders, Mapping):
        return to_pillow(autoencoder_panels(dict(autoencoders), batch))
    return to_pillow(autoencoder_panel(autoencoders, batch))

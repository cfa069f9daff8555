"""Which images a training of stage 1 can take: those that no step draws smaller than its networks need."""

from collections.abc import Callable, Iterator, Mapping

from eqvae.autoencoders import Autoencoder
from eqvae.losses import PatchCritic, ReconstructionLoss
from eqvae.regularizers import Regularizers
from eqvae.regularizers.base import Size

SHRINKINGS = (1, 4, 8, 16, 32, 64)  # by which images may be drawn smaller: EQ-VAE's 4, and others'


def smallest_sides(
    autoencoder: Autoencoder, regularizers: Regularizers, reconstruction: ReconstructionLoss, critic: PatchCritic | None
) -> Iterator[tuple[Callable[[Size], int], dict[str, int]]]:
    """Which latents reach networks at their smallest, and the shortest side in pixels that each network takes."""
    yield regularizers.smallest_compared, {"reconstruction.perceptual": reconstruction.smallest_side}
    if critic is not None:
        yield regularizers.smallest_shown, {"the critic of adversarial": critic.smallest_side}
    padding = autoencoder.posterior_factor * autoencoder.smallest_latent_side
    yield regularizers.smallest_side, {"its padding_mode": padding}


def require_large_images(
    image_size: tuple[int, int],
    factor: int,
    smallest_latent: Callable[[tuple[int, int]], int],
    smallest_sides: Mapping[str, int],
) -> None:
    """Refuse images that a step can shrink below what a network takes.

    Args:
        image_size: (height, width) of the training images.
        factor: image side over latent side.
        smallest_latent: shorter side of the smallest latent that a step can draw, of latents (height, width).
        smallest_sides: shortest side in pixels that each network takes, by what to call it.

    Raises:
        ValueError: naming network, smallest draw, and a side that is enough.
    """
    height, width = image_size
    if height % factor or width % factor:
        raise ValueError(f"training images of {height} x {width} pixels: both sides must be multiples of {factor}")
    drawn = factor * smallest_latent((height // factor, width // factor))
    for name, needed in smallest_sides.items():
        if drawn < needed:
            enough = _enough_pixels(needed, factor, smallest_latent)
            raise ValueError(
                f"the smallest image that a step can draw from {height} x {width} pixels has a side of {drawn}, {name} "
                f"needs {needed}: use images of at least {enough} pixels, other transforms, or leave it out"
            )


def _enough_pixels(needed: int, factor: int, smallest_latent: Callable[[tuple[int, int]], int]) -> int:
    """Side of images of which no step can draw one with a side below `needed`: a multiple that leaves its rows."""
    rows = -(-needed // factor)  # that must be left
    sides = [rows * shrunk for shrunk in SHRINKINGS]
    return factor * next((side for side in sides if factor * smallest_latent((side, side)) >= needed), sides[-1])


def require_large_validation_images(image_size: tuple[int, int], smallest_sides: Mapping[str, int]) -> None:
    """Refuse validation images that a metric cannot judge, before the training that would end in them.

    Raises:
        ValueError: naming the metric and its smallest side.
    """
    for name, needed in smallest_sides.items():
        if min(image_size) < needed:
            height, width = image_size
            raise ValueError(
                f"validation images have {height} x {width} pixels, {name} needs {needed}: use larger ones, another "
                "metric (evaluation), or trainer.limit_val_batches: 0"
            )

"""What a fit settles before its first step: whether the smallest images that it can draw are large enough."""

from collections.abc import Mapping

from eqvae.equivariance import TransformDistribution


def require_large_images(
    image_size: tuple[int, int], factor: int, transforms: TransformDistribution, smallest_sides: Mapping[str, int]
) -> None:
    """Refuse images that a step can shrink below what a network takes.

    Args:
        image_size: (height, width) of the training images.
        factor: image side over latent side.
        transforms: how a step draws its transform.
        smallest_sides: shortest side in pixels that each network takes, by what to call it.

    Raises:
        ValueError: naming network, smallest draw, and the smallest side that would do.
    """
    height, width = image_size
    if height % factor or width % factor:
        raise ValueError(f"training images of {height} x {width} pixels: both sides must be multiples of {factor}")
    side = min(height, width)
    drawn = factor * transforms.smallest_side((height // factor, width // factor))
    for name, needed in smallest_sides.items():
        if drawn < needed:
            latent = -(-needed // factor)  # rows that must be left
            enough = factor * latent * (4 if drawn < side else 1)
            raise ValueError(
                f"the smallest image that a step can draw from {height} x {width} pixels has a side of {drawn}, {name} "
                f"needs {needed}: use images of at least {enough} pixels, other transforms, or leave it out"
            )


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

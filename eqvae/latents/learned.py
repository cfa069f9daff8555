"""Which images a run has learned so far: kept in its checkpoints, and compared when it goes on.

A resumed run finds its place by the number of an image, so one image more or less would show some twice and others not.
"""

from typing import Any

from eqvae.latents.shards import dataset_changes

IMAGES = "images"  # key of a checkpoint: what a data module says of its training images


def require_learned_images(checkpoint: dict[str, Any], images: dict[str, Any] | None, what: str) -> None:
    """Refuse to go on with other images than a checkpoint's; one that does not tell its own goes on with any.

    Args:
        images: what the data says of the training images (`describe_images`); None where it does not tell.
        what: is of these images, as the error names it: the key, and the folder where there is one.

    Raises:
        ValueError: naming what changed.
    """
    recorded = checkpoint.get(IMAGES)
    if recorded and images and (changed := dataset_changes(recorded, images)):
        raise ValueError(
            f"{what}: these are not the images that the run has learned so far ({', '.join(changed)}): give those, or "
            "begin anew in another trainer.default_root_dir"
        )

"""What autoencoders are compared on: images to train on, and held-out ones that samples are measured against."""

from dataclasses import dataclass
from typing import Any

from eqvae.data import ImageSource, open_source
from eqvae.data.opening import PROCEDURAL, require_there, source_config
from eqvae.data.overlap import are_same_images

HELD_OUT_COUNT = 2000  # of procedural images, which are drawn as they are needed
FEWEST_IMAGES = 100  # to train on, and to measure against


@dataclass(frozen=True)
class Images:
    """Images of a comparison.

    Args:
        train, held_out: sources as a config of `train.py` has them: `class_path` and `init_args`.
        num_train, num_held_out: images of each.
        num_classes: of the training images.
        image_size: side, pixels.
    """

    train: dict[str, Any]
    held_out: dict[str, Any]
    num_train: int
    num_held_out: int
    num_classes: int
    image_size: int


def find_images(data: str, held_out: str | None, image_size: int) -> Images:
    """Open the images that two options name.

    Args:
        data: `--data`, as `open_source` takes it.
        held_out: `--held-out`; None takes, of procedural images, the same kind with the next seed.
        image_size: side, pixels.

    Raises:
        ValueError: naming the option whose images are missing, unreadable, too few, or those of the other one.
    """
    shown = _open("--data", data, image_size)
    held_out = held_out_images(data, held_out)
    hidden = _open("--held-out", held_out, image_size)
    if are_same_images(shown, hidden):
        raise ValueError(f"--held-out {held_out} holds the images of --data: give others, that no generator is shown")
    train, others = source_config(data, image_size), source_config(held_out, image_size)
    return Images(train, others, len(shown), len(hidden), shown.num_classes, image_size)


def held_out_images(data: str, held_out: str | None) -> str:
    """The word of the images that samples are measured against."""
    return _other_seed(data) if held_out is None else held_out


def _other_seed(data: str) -> str:
    kind, *numbers = data.split(":")
    if kind not in PROCEDURAL:
        raise ValueError(
            f"--data {data} needs --held-out, images of the same kind that no generator is shown: give a folder, a "
            "parquet or tar file"
        )
    seed = int(numbers[1]) if len(numbers) == 2 and numbers[1].isdigit() else 0
    return f"{kind}:{HELD_OUT_COUNT}:{seed + 1}"


def _open(option: str, where: str, image_size: int) -> ImageSource:
    try:
        require_there(where)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    try:
        source = open_source(where, image_size)
    except ValueError as error:
        raise ValueError(f"{option} {where}: {error}") from None
    if len(source) < FEWEST_IMAGES:
        raise ValueError(f"{option} {where} has {len(source)} images: give at least {FEWEST_IMAGES}")
    return source

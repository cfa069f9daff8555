"""What each measurement is followed by."""

import argparse
from collections.abc import Callable
from pathlib import Path

from twostage.commands.ending import command, free
from twostage.compare.contestants import parse_contestants, read_field
from twostage.compare.images import find_images
from twostage.compare.request import default_folder

LEAST_SIDE = 8  # of images that are compared on


def following(arguments: argparse.Namespace) -> list[str]:
    """The words of the next command after a subcommand that has ended well."""
    return FOLLOWING[arguments.command](arguments)


def _same(name: str, arguments: argparse.Namespace) -> list[str]:
    """Another measurement of the same autoencoders on the same images."""
    words = [name]
    for option in ("autoencoder", "family"):
        for value in getattr(arguments, option) or []:
            words += [f"--{option}", value]
    words += ["--data", arguments.data, "--image-size", str(arguments.image_size)]
    if arguments.num_images is not None:
        words += ["--num-images", str(arguments.num_images)]
    return command("evaluate", *words)


def _after_reconstruction(arguments: argparse.Namespace) -> list[str]:
    return _same("latents", arguments)


def _after_latents(arguments: argparse.Namespace) -> list[str]:
    """Which of two lets a generator learn faster, of one whether its fine-tuning does; reconstructions otherwise."""
    given = arguments.autoencoder
    pair = given if len(given) == 2 else [*given, f"eq:{given[0]}"]
    try:
        find_images(arguments.data, None, arguments.image_size)
        read_field(parse_contestants(pair), arguments.image_size)
    except ValueError:  # such as a folder of images, of which none are known to be held out, or a codebook
        return _same("reconstruction", arguments)
    if arguments.family or arguments.image_size < LEAST_SIDE:
        return _same("reconstruction", arguments)
    images = ["--data", arguments.data, "--image-size", arguments.image_size]
    return command("compare", *pair, *images, "--output", free(default_folder(pair)))


def _after_generation(arguments: argparse.Namespace) -> list[str]:
    """The same question with a control and several seeds."""
    return command("sweep", "--config", "tiny-shapes", "--dry-run")


def _after_alignment(arguments: argparse.Namespace) -> list[str]:
    words = ["--checkpoint", arguments.checkpoint, "--output", free(Path("runs/samples")), "--npz"]
    for option in ("family", "num_heads", "autoencoder", "autoencoder_family", "ema_decay"):
        if (value := getattr(arguments, option)) is not None:
            words += [f"--{option.replace('_', '-')}", value]
    return command("sample", *words)


def _after_images(arguments: argparse.Namespace) -> list[str]:
    """How well a packaged autoencoder, whose factor is 4, gives such images back."""
    side = max(arguments.image_size // 4, 1) * 4
    words = ["--autoencoder", "shapes-f4c8", "--data", arguments.data, "--image-size", side]
    return command("evaluate", "reconstruction", *words)


FOLLOWING: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "reconstruction": _after_reconstruction,
    "latents": _after_latents,
    "generation": _after_generation,
    "alignment": _after_alignment,
    "images": _after_images,
}

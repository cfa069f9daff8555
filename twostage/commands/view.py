"""`view`: the page of transformed latents, served until a signal ends it."""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from eqvae.autoencoders import load_autoencoder
from eqvae.data import ImageSource, open_source
from eqvae.evaluation.image_grids import save_png
from eqvae.options import choose_device
from eqvae.ranges import require_number
from eqvae.selection import evenly_spaced
from twostage.commands.ending import end, look_at
from twostage.commands.evaluate.autoencoders import file_configs
from twostage.view.exhibit import Exhibit
from twostage.view.page import load_gradio, serve
from twostage.view.sampling import load_generators

NUM_EXAMPLES = 6
LARGEST_PORT = (1 << 16) - 1


def run(arguments: argparse.Namespace) -> None:
    require_number("--image-size", arguments.image_size, least=8)
    arguments.device = choose_device(arguments.device)
    require_number("--port", arguments.port, least=1, most=LARGEST_PORT)
    with showing(arguments) as address:
        end(address, look_at(address), "serving until Ctrl-C:")
        threading.Event().wait()  # a signal ends it


@contextmanager
def showing(arguments: argparse.Namespace) -> Iterator[str]:
    """Serve meanwhile what the options ask for; yields the address of the page."""
    with TemporaryDirectory(prefix="eqvae-view-") as folder:
        gradio = load_gradio("eqvae-view", folder)
        source = open_source(arguments.data, arguments.image_size)
        exhibit = load_exhibit(arguments)
        with serve(gradio, exhibit, write_examples(source, Path(folder)), arguments.host, arguments.port) as address:
            yield address


def load_exhibit(arguments: argparse.Namespace) -> Exhibit:
    """The autoencoders and generators that the options name.

    Raises:
        ValueError: naming one that cannot be loaded or takes no images of this side.
    """
    configs = file_configs(arguments.autoencoders, arguments.family or [])
    autoencoders = {
        name: load_autoencoder(name, config=configs.get(name)).freeze().to(arguments.device)
        for name in arguments.autoencoders
    }
    for autoencoder in autoencoders.values():
        autoencoder.require_image_size(arguments.image_size, "--image-size")
    generators = load_generators(arguments.checkpoint, autoencoders, arguments.device)
    return Exhibit(autoencoders, generators, arguments.image_size)


def write_examples(source: ImageSource, folder: Path) -> list[Path]:
    """A few evenly spaced images of a source as PNG files."""
    paths = []
    for index in evenly_spaced(min(NUM_EXAMPLES, len(source)), len(source)):
        paths.append(folder / f"image-{int(index)}.png")
        save_png(source[int(index)][0], paths[-1])
    return paths

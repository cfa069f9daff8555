"""A page in the browser: rotate, scale or shift the latent of an image, and see what autoencoders decode from it.

Autoencoders are folders, single files, packaged names or hub ids, shown side by side beside the transformed image, with
their errors. Example: scenes-f4c8-control scenes-f4c8-eq --data scenes:8
"""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from eqvae.autoencoders import load_autoencoder
from eqvae.autoencoders.families import FAMILIES
from eqvae.commands import CommandParser, run_command
from eqvae.data import ImageSource, open_source
from eqvae.evaluation.image_grids import save_png
from eqvae.ranges import require_number
from eqvae.selection import evenly_spaced
from twostage.cli.ending import end, look_at
from twostage.cli.evaluate.autoencoders import file_configs
from twostage.cli.evaluate.options import IMAGES
from twostage.view.exhibit import Exhibit
from twostage.view.page import load_gradio, serve
from twostage.view.sampling import load_generators

NUM_EXAMPLES = 6
LARGEST_PORT = (1 << 16) - 1


def main() -> None:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("autoencoders", nargs="+", metavar="AUTOENCODER", help="folders, files, packaged names or hub ids")
    add("--family", action="append", choices=list(FAMILIES), help="family of a single file whose architecture several "
        "share; one for all files, or one for each")  # fmt: skip
    add("--checkpoint", action="append", default=[], help="checkpoint of a generator whose samples are shown; "
        "repeatable, all start from the same noise")  # fmt: skip
    add("--data", default="shapes:6", help=f"{IMAGES}; {NUM_EXAMPLES} of them are there to try; default %(default)s")
    add("--image-size", type=int, default=32, help="side that images are cropped to, in pixels; default %(default)s")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default %(default)s")
    add("--host", default="127.0.0.1", help="address to serve at; default %(default)s, this machine alone")
    add("--port", type=int, default=7860, help="default %(default)s")
    run_command(lambda: _run(parser.parse_args()))


def _run(arguments: argparse.Namespace) -> None:
    require_number("--image-size", arguments.image_size, least=8)
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

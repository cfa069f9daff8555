"""A page in the browser: rotate, scale or shift the latent of an image, and see what autoencoders decode from it.

Autoencoders are folders, single files, packaged names or hub ids, shown side by side beside the transformed image, with
their errors. Example: scenes-f4c8-control scenes-f4c8-eq --data scenes:8
"""

from twostage.cli.command import new_parser, start
from twostage.cli.options import IMAGES, add_device, add_file_family


def main() -> None:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("autoencoders", nargs="+", metavar="AUTOENCODER", help="folders, files, packaged names or hub ids")
    add_file_family(parser, several=True)
    add("--checkpoint", action="append", default=[], help="checkpoint of a generator whose samples are shown; "
        "repeatable, all start from the same noise")  # fmt: skip
    add("--data", default="shapes:6", help=f"{IMAGES}; a few of them are there to try (default: %(default)s)")
    add("--image-size", type=int, default=32, help="side that images are cropped to, in pixels (default: %(default)s)")
    add_device(parser)
    add("--host", default="127.0.0.1", help="address to serve at (default: %(default)s, this machine alone)")
    add("--port", type=int, default=7860, help="default: %(default)s")
    start("view", parser)

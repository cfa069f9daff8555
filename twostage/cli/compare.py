"""Which of several autoencoders lets a generator learn faster? An answer within a given time, with its report.

Autoencoders are folders, single files, packaged names or hub ids; eq:A is A fine-tuned with EQ-VAE's transforms first,
ordinary:A with the ordinary loss, again:A likewise with other seeds. The first one is the control.
Example: scenes-f4c8 eq:scenes-f4c8 --budget 30m
"""

from twostage.cli.command import new_parser, start
from twostage.compare import DEFAULT_IMAGES


def main() -> None:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("autoencoders", nargs="+", metavar="AUTOENCODER", help="two or more, the first of them the control")
    add("--data", default=DEFAULT_IMAGES, help="images to learn from: scenes:COUNT[:SEED], shapes:COUNT[:SEED], a "
        "folder, a parquet or tar file or glob (default: %(default)s)")  # fmt: skip
    add("--held-out", help="images to measure against, written likewise (default: of procedural ones the next seed's)")
    add("--image-size", type=int, default=32, help="side of the images in pixels (default: %(default)s)")
    add("--budget", default="10m", help="time for everything, such as 90s, 10m or 2h (default: %(default)s)")
    add("--fine-tuning-steps", type=int, default=200, help="of each autoencoder that is fine-tuned first "
        "(default: %(default)s)")  # fmt: skip
    add("--first-seed", type=int, default=0, help="of the seeds, which follow each other, a multiple of 20; another "
        "one repeats the comparison independently (default: %(default)s)")  # fmt: skip
    add("--output", help="folder of the comparison; what lies there is gone on with (default: runs/compare-NAMES)")
    add("--retry", action="store_true", help="also do parts again that failed in an earlier run")
    start("compare", parser)

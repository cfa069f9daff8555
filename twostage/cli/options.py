"""Options that several commands have."""

from typing import Any

IMAGES = "images: shapes:COUNT[:SEED], hub:OWNER/NAME, folder, parquet or tar glob or address, .npz"


def add_device(parser: Any) -> None:
    parser.add_argument("--device", help="cpu, cuda, mps or xpu (default: cuda where there is one, else cpu)")


def add_precision(parser: Any) -> None:
    text = "of the network: float32, bfloat16, or auto, the faster one here as measured (default: %(default)s)"
    parser.add_argument("--precision", choices=["float32", "bfloat16", "auto"], default="float32", help=text)


def add_file_family(parser: Any, option: str = "--family", several: bool = False) -> None:
    """Of a single file of weights, whose architecture does not tell its scale."""
    text = "family of a single file whose architecture several share, such as sd or sdxl"
    text += "; one for all files, or one for each" if several else ""
    parser.add_argument(option, metavar="FAMILY", action="append" if several else "store", help=text)


def add_public_family(parser: Any) -> None:
    """Of a generator's checkpoint that others published."""
    parser.add_argument("--family", choices=["DiT", "SiT"], help="family of a public checkpoint, which does not tell")
    parser.add_argument("--num-heads", type=int, help="heads of a public checkpoint of a width that was not published")
    parser.add_argument("--ema-decay", type=float, help="which moving average, where the run kept several (default: "
                        "the first)")  # fmt: skip

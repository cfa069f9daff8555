"""Listing a folder of images, as every run begins: seconds and memory of a source, no image being opened.

Makes a temporary folder of class folders first, of small files; the first listing is not timed, the names being in the
system's memory after it.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from measure import describe_device, report, time_in_turns
from PIL import Image

from eqvae.commands import run_command
from eqvae.data import FolderSource

SIDE = 8
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--num-images", type=int, default=100_000, help="files in the folder")
    parser.add_argument("--num-classes", type=int, default=1000, help="folders that they lie in")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time the listing and the fingerprint; one JSON-ready dict."""
    with tempfile.TemporaryDirectory() as folder:
        _make_files(Path(folder), arguments)
        source = FolderSource(folder, SIDE)
        steps = {"listing": lambda: FolderSource(folder, SIDE), "fingerprint": source.fingerprint}
        return {
            "benchmark": "indexing",
            "num_images": len(source),
            **time_in_turns(steps, CPU, arguments.repeats, warmup=1),
            **describe_device(CPU),
        }


def _make_files(folder: Path, arguments: argparse.Namespace) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(folder / "first.png")
    content = (folder / "first.png").read_bytes()
    (folder / "first.png").unlink()
    names = [f"{number:08}.png" for number in range(arguments.num_images)]
    for number in range(arguments.num_classes):
        place = folder / f"n{number:08}"
        place.mkdir()
        for name in names[number :: arguments.num_classes]:
            (place / name).write_bytes(content)


if __name__ == "__main__":
    main()

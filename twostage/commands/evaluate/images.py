"""`images`: looks for images that cannot be read."""

import argparse

from rich.console import Console

from eqvae.data import find_unreadable, open_source
from eqvae.data.encoded import EncodedSource
from eqvae.evaluation.tables import save_result
from eqvae.progress import ProgressLine


def look_for_unreadable(arguments: argparse.Namespace) -> dict:
    source = open_source(arguments.data, arguments.image_size)
    if not isinstance(source, EncodedSource):
        raise ValueError(f"--data {arguments.data} holds no image files: give a folder, parquet or tar file")
    with ProgressLine("images", len(source)) as line:
        search = find_unreadable(
            source, num_threads=arguments.num_threads, progress=lambda done, total: line.update(done)
        )
    report = {"num_images": len(source), "num_unreadable": len(search.problems), "unreadable": search.problems}
    if arguments.output:
        save_result(arguments.output, report)
    if search.problems:
        raise ValueError(search.message())
    Console().print(f"all {len(source)} images of {arguments.data} can be read, {source.num_classes} classes")
    return report

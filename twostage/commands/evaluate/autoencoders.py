"""Measures one autoencoder, or two side by side, in whatever way it is handed."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from eqvae.autoencoders import load_autoencoder
from eqvae.data import ImageSource, open_source
from eqvae.evaluation.image_grids import autoencoder_panels, save_png
from eqvae.evaluation.inputs import few_images
from eqvae.evaluation.measurements import FINGERPRINT
from eqvae.evaluation.tables import comparison_table, differences, result_table

NUM_PANEL_IMAGES = 6

Measure = Callable[[Any, ImageSource, argparse.Namespace], dict]
"""Measures an autoencoder on a source of images, as the options say."""


def measure_all(arguments: argparse.Namespace, measure: Measure) -> dict:
    """Measure the autoencoders that the options name, print the results and return them."""
    if len(arguments.autoencoder) > 2:
        raise ValueError(f"--autoencoder may be given once or twice, got {len(arguments.autoencoder)}")
    if len(set(arguments.autoencoder)) < len(arguments.autoencoder):
        raise ValueError(f"--autoencoder {arguments.autoencoder[0]} is given twice: give it once, or another one")
    source = open_source(arguments.data, arguments.image_size)
    configs = file_configs(arguments.autoencoder, arguments.family or [])
    autoencoders = {
        name: load_autoencoder(name, config=configs.get(name)).freeze().to(arguments.device)
        for name in arguments.autoencoder
    }
    for autoencoder in autoencoders.values():
        autoencoder.require_image_size(arguments.image_size, "--image-size")
    results = [measure(autoencoder, source, arguments) for autoencoder in autoencoders.values()]
    results = [
        {"autoencoder": name, FINGERPRINT: autoencoder.fingerprint()} | each
        for (name, autoencoder), each in zip(autoencoders.items(), results, strict=True)
    ]
    if arguments.figure:
        images = few_images(source, NUM_PANEL_IMAGES).to(arguments.device)
        save_png(autoencoder_panels(autoencoders, images), Path(arguments.figure))
    if len(results) == 1:
        Console().print(result_table(results[0]))
        return results[0]
    Console().print(comparison_table(*results, headings=("first", "second")))
    return {"first": results[0], "second": results[1], "differences": differences(*results)}


def file_configs(names: list[str], families: list[str]) -> dict[str, dict]:
    """What to read each single file with, by its name.

    Raises:
        ValueError: there are neither one family nor as many as single files.
    """
    files = [name for name in names if Path(name).is_file()]
    if families and (not files or len(families) not in (1, len(files))):
        raise ValueError(
            f"--family was given {len(families)} times, single files {len(files)} times: give one for each"
        )
    return {name: {"family": family} for name, family in zip(files, families * len(files))}

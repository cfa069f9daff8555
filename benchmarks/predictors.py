"""All predictors of a latent space on procedural images: seconds of each, of encoding, and the peak of memory.

A first round gives values and the peak, the others are timed.
"""

import argparse
import warnings
from collections.abc import Callable

import torch
from measure import describe_device, peak_memory_gib, report, reset_peak_memory, time_in_turns

from eqvae.autoencoders import load_autoencoder
from eqvae.commands import run_command
from eqvae.data import open_source
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--autoencoder", default="shapes-f4c8", help="folder, hub id or packaged name")
    add("--data", default="shapes:5000", help="images, as evaluate.py takes them")
    add("--image-size", type=int, default=32, help="side of the images")
    add("--repeats", type=int, default=3, help="timed rounds")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time encoding and each predictor in turns; one JSON-ready dict."""
    device = torch.device(arguments.device)
    autoencoder = load_autoencoder(arguments.autoencoder).freeze().to(device)
    source = open_source(arguments.data, arguments.image_size)

    def encode():
        return autoencoder_to_sample(autoencoder, source, device=arguments.device)

    reset_peak_memory(device)
    sample = encode()
    predict: dict[str, Callable[[], dict]] = {
        name: lambda predictor=predictor: _values(predictor, sample) for name, predictor in PREDICTORS.items()
    }
    values = [each() for each in predict.values()]
    peak = peak_memory_gib(device)
    timed = time_in_turns({"encoding": encode, **predict}, device, arguments.repeats, warmup=0)
    return {
        "benchmark": "predictors",
        "autoencoder": arguments.autoencoder,
        "data": arguments.data,
        "latents": list(sample.latents.shape),
        **timed,
        "seconds_of_all": sum(each["seconds"] for each in timed.values()),
        "peak_memory_gib": peak,
        "values": {name: value for each in values for name, value in each.items()},
        **describe_device(device),
    }


def _values(predictor, sample) -> dict:
    """What it gives, or why it gives nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images for the features of a Fréchet distance
        try:
            return predictor(sample)
        except ValueError as error:
            return {predictor.name: str(error)}


if __name__ == "__main__":
    main()

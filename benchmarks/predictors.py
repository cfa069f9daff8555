"""All predictors of a latent space on procedural images: seconds of each, of encoding, and the peak of memory.

Seconds of the processor stand beside those of the clock, which other work on the machine makes longer.
"""

import argparse
import time
import warnings

import torch
from measure import describe_device, peak_memory_gib, report, reset_peak_memory, synchronize

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
    add("--threads", type=int, default=2, help="that compute")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time encoding, then each predictor; one JSON-ready dict."""
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    autoencoder = load_autoencoder(arguments.autoencoder).freeze().to(device)
    source = open_source(arguments.data, arguments.image_size)
    reset_peak_memory(device)
    sample, *encoding = _timed(lambda: autoencoder_to_sample(autoencoder, source, device=arguments.device), device)
    timings, values = {"encoding": encoding}, {}
    for name, predictor in PREDICTORS.items():
        found, *timings[name] = _timed(lambda predictor=predictor: _values(predictor, sample), device)
        values |= found
    return {
        "benchmark": "predictors",
        "autoencoder": arguments.autoencoder,
        "data": arguments.data,
        "latents": list(sample.latents.shape),
        "seconds": sum(clock for clock, _ in timings.values()),
        "processor_seconds": sum(processor for _, processor in timings.values()),
        "peak_memory_gib": peak_memory_gib(device),
        "seconds_of_each": {name: clock for name, (clock, _) in timings.items()},
        "processor_seconds_of_each": {name: processor for name, (_, processor) in timings.items()},
        "values": values,
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


def _timed(function, device: torch.device) -> tuple:
    """What the function returns, and its seconds by the clock and of the processor."""
    synchronize(device)
    clock, processor = time.perf_counter(), time.process_time()
    result = function()
    synchronize(device)
    return result, time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    main()

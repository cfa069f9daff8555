"""A training step with each regularizer of latents, against one with the ordinary loss, in turns in one process.

Draws differ from step to step, so that means are compared, not medians. On a CPU seconds are those of the processor,
which other work on the machine makes little longer.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from autoencoder_step import PRECISIONS, TrainerSteps
from measure import describe_device, report, synchronize

from eqvae import regularizers
from eqvae.commands import run_command
from eqvae.losses import ReconstructionLoss
from eqvae.module import AutoencoderModule
from eqvae.regularizers import LatentRegularizer, NoisyDecoding

WARMUP = 2
METHODS = [
    kind
    for kind in (getattr(regularizers, name) for name in regularizers.__all__)
    if isinstance(kind, type) and issubclass(kind, LatentRegularizer) and kind is not LatentRegularizer
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--autoencoder", default="scenes-f4c8", help="KL autoencoder: folder, hub id or packaged name")
    add("--image-size", type=int, default=32, help="side of the images")
    add("--batch-size", type=int, default=16, help="images per step")
    add("--perceptual", default="efficientnet_lite0", help="feature distance, as in a training config")
    add("--precision", choices=list(PRECISIONS), default="32", help="of the step")
    add("--threads", type=int, default=1, help="that compute")
    add("--steps", type=int, default=24, help="timed steps of each")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time all steps in turns; one JSON-ready dict."""
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    shape = (arguments.batch_size, 3, arguments.image_size, arguments.image_size)
    images = torch.rand(shape, device=device) * 2 - 1
    variants = {"ordinary": step(arguments, images, [])}
    variants |= {kind.name: step(arguments, images, [kind()]) for kind in METHODS}
    seconds = time_steps(variants, device, arguments.steps)
    means = {name: statistics.mean(values) for name, values in seconds.items()}
    errors = {name: standard_error(values) / means[name] for name, values in seconds.items()}
    ratios = {name: mean / means["ordinary"] for name, mean in means.items()}
    return {
        "benchmark": "regularizers",
        **{
            name: getattr(arguments, name)
            for name in ("autoencoder", "image_size", "batch_size", "perceptual", "steps")
        },
        "seconds": means["ordinary"],
        "ratios": ratios,
        "errors_of_ratios": {
            name: ratios[name] * (errors[name] ** 2 + errors["ordinary"] ** 2) ** 0.5 for name in ratios
        },
        "extra_passes": {kind.name: list(kind().extra_passes()) for kind in METHODS},
        **describe_device(device),
    }


def time_steps(variants: dict[str, Callable[[], None]], device: torch.device, steps: int) -> dict[str, list[float]]:
    """Seconds of each step of each variant, taken in turns after two that are not timed."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(WARMUP + steps):
        for name, variant in variants.items():
            synchronize(device)
            started = clock()
            variant()
            synchronize(device)
            seconds[name].append(clock() - started)
    return {name: values[WARMUP:] for name, values in seconds.items()}


def standard_error(values: list[float]) -> float:
    """Of their mean; 0 for a single value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def step(arguments: argparse.Namespace, images: torch.Tensor, asked: list[LatentRegularizer]) -> TrainerSteps:
    """One training step with what is asked of latents, without a critic."""
    trainable = "decoder" if any(isinstance(each, NoisyDecoding) for each in asked) else "all"
    reconstruction = ReconstructionLoss(perceptual=arguments.perceptual)
    module = AutoencoderModule(
        arguments.autoencoder, None, reconstruction, regularizers=asked, trainable=trainable, gradient_clip_norm=1000.0
    )
    return TrainerSteps(module, images, arguments.precision)


if __name__ == "__main__":
    main()

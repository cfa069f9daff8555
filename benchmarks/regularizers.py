"""A training step with each regularizer of latents, against one with the ordinary loss, in turns in one process.

Draws differ from step to step, so that a round is several steps. On a CPU ratios are of seconds of the processor, which
other work on the machine makes little longer.
"""

import argparse

import torch
from autoencoder_step import PRECISIONS, TrainerSteps
from measure import describe_device, report, time_in_turns

from eqvae import regularizers
from eqvae.commands import run_command
from eqvae.losses import ReconstructionLoss
from eqvae.module import AutoencoderModule
from eqvae.regularizers import LatentRegularizer, NoisyDecoding

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
    add("--steps", type=int, default=6, help="steps of each in a round")
    add("--repeats", type=int, default=5, help="timed rounds")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time all steps in turns; one JSON-ready dict."""
    device = torch.device(arguments.device)
    shape = (arguments.batch_size, 3, arguments.image_size, arguments.image_size)
    images = torch.rand(shape, device=device) * 2 - 1
    variants = {"ordinary": step(arguments, images, [])}
    variants |= {kind.name: step(arguments, images, [kind()]) for kind in METHODS}
    timed = time_in_turns(variants, device, arguments.repeats, warmup=1, inner=arguments.steps)
    clock = "processor_seconds" if device.type == "cpu" else "seconds"
    return {
        "benchmark": "regularizers",
        **{
            name: getattr(arguments, name)
            for name in ("autoencoder", "image_size", "batch_size", "perceptual", "steps")
        },
        **timed,
        "ratios": {name: timing[clock] / timed["ordinary"][clock] for name, timing in timed.items()},
        "extra_passes": {kind.name: list(kind().extra_passes()) for kind in METHODS},
        **describe_device(device),
    }


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

"""Guided sampling of latents: images/s of our sampler, and with `--reference PATH` of the public model's guided passes.

The reference is credited with its network passes alone, one guided pass per step, in float32 without its sampler's
arithmetic; ours includes everything from noise to latents.
"""

import argparse

import torch
from generators import create_random_generator
from measure import (
    add_precision,
    choose,
    describe_device,
    in_precision,
    matmul_peak_tflops,
    ratios,
    report,
    time_in_turns,
)
from train_step import load_reference

from dit.backbones.flops import num_multiply_adds
from dit.checkpoints import Generator
from dit.generation import SamplingSettings, generate_latents
from eqvae.commands import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--backbone", default="DiT-S/2", help="published size, e.g. SiT-XL/2 or MaskGIT-v1")
    add("--input-size", type=int, default=32, help="side of the latents or tokens")
    add("--batch-size", type=int, default=4, help="images at a time")
    add("--sampler", help="heun for SiT, ddpm for DiT, halton for MaskGIT by default")
    add("--num-inference-steps", type=int, default=10, help="steps of the sampler; 250 in the papers")
    add("--guidance-scale", type=float, default=1.5, help="1 is none")
    add_precision(parser, "of our network passes; float32 is timed beside it")
    add("--repeats", type=int, default=3, help="timed rounds")
    add("--reference", help="checkout of the public DiT or SiT")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time all variants in turns; one JSON-ready dict."""
    device = torch.device(arguments.device)
    arguments.precision = choose(arguments.precision, device)
    generator = create_random_generator(arguments.backbone, arguments.input_size)
    generator.backbone.to(device).eval().requires_grad_(False)
    settings = SamplingSettings(arguments.sampler, arguments.num_inference_steps, arguments.guidance_scale)
    indices = torch.arange(arguments.batch_size)
    passes = arguments.batch_size * _count_passes(generator, indices[:1], settings)

    def ours(precision: str) -> None:
        generator.precision = "bfloat16" if precision == "bf16" else "float32"
        generate_latents(generator, indices, indices, settings)

    variants = {
        "float32": in_precision(lambda: ours("32"), "32", device),
        "ours": in_precision(lambda: ours(arguments.precision), arguments.precision, device),
    }
    if arguments.reference:
        variants["reference"] = in_precision(_reference_passes(arguments, device), "tf32", device)
    timed = time_in_turns(variants, device, arguments.repeats, warmup=1)
    for values in timed.values():
        values["images_per_second"] = arguments.batch_size / values["seconds"]
    peak = matmul_peak_tflops(device, arguments.precision)
    tflops = 2 * num_multiply_adds(generator.backbone) * passes / timed["ours"]["seconds"] / 1e12
    base = "reference" if arguments.reference else "float32"
    names = ("backbone", "input_size", "batch_size", "num_inference_steps", "guidance_scale", "precision")
    return {
        "benchmark": "sampling",
        **{name: getattr(arguments, name) for name in names},
        "sampler": settings.sampler or generator.default_sampler,
        "network_passes_per_image": passes / arguments.batch_size,
        **timed,
        **ratios(timed, base, "ours"),
        "ratio_to": base,
        "tflops": tflops,
        "matmul_peak_tflops": peak,
        "share_of_matmul_peak": tflops / peak,
        **describe_device(device),
    }


def _count_passes(generator: Generator, indices: torch.Tensor, settings: SamplingSettings) -> int:
    """Network passes of one image: guidance doubles the batch, Heun the calls."""
    counted = 0

    def count(module, inputs):
        nonlocal counted
        counted += len(inputs[0])

    with generator.backbone.register_forward_pre_hook(count):
        generate_latents(generator, indices, indices, settings)
    return counted


def _reference_passes(arguments: argparse.Namespace, device: torch.device):
    model = load_reference(arguments.reference, arguments.backbone, arguments.input_size).model.to(device).eval()
    labels = torch.cat((torch.arange(arguments.batch_size), torch.full((arguments.batch_size,), 1000))).to(device)
    noise = torch.randn(len(labels), model.in_channels, arguments.input_size, arguments.input_size, device=device)
    times = torch.linspace(999, 0, arguments.num_inference_steps, device=device)

    @torch.inference_mode()
    def sample() -> None:
        for time in times:
            model.forward_with_cfg(noise, time.long().expand(len(labels)), labels, arguments.guidance_scale)

    return sample


if __name__ == "__main__":
    main()

"""Images from a trained generator: `sample.py --checkpoint last.ckpt --output samples`.

The averaged weights are sampled and decoded by the autoencoder that made the latents. Image i is the same for any
batch size, since all its noise is keyed by i.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from dit.checkpoints import load_generator
from dit.generation import SamplingSettings, choose_labels, generate_images
from dit.samplers import SAMPLERS
from dit.samplers.masked import KNOWN
from eqvae.autoencoders import load_autoencoder
from eqvae.evaluation.pictures import image_grid, save_png
from eqvae.training.cli import run_command
from eqvae.training.files import write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="checkpoint of a generator (.ckpt)")
    add("--autoencoder", help="folder or hub id that decodes; the one named in the checkpoint")
    add("--output", default="samples", help="folder for the results")
    add("--num-images", type=int, default=100, help="how many images")
    add("--batch-size", type=int, default=100, help="images at a time; changes no image")
    add("--labels", default="balanced", help="balanced, random, or class numbers separated by commas")
    add("--sampler", choices=list(SAMPLERS), help="heun for flows, ddpm for diffusion, halton for tokens")
    add("--num-inference-steps", type=int, default=50, help="steps of the sampler")
    add("--guidance-scale", type=float, default=1.0, help="classifier-free guidance; 1 is none")
    add("--guidance-channels", choices=["all", "first3"], default="all", help="first3 as the public DiT and SiT")
    add("--guidance-schedule", choices=["constant", "linear"], default="constant", help="linear: from 1 at t = 0 on")
    add("--uint8-rule", choices=["round", "truncate"], default="round", help="truncate as the public samplers")
    add("--seed", type=int, default=0, help="of starting noise, step noise and random labels")
    tokens = parser.add_argument_group("token models").add_argument
    tokens("--schedule", choices=list(KNOWN), default="arccos", help="how the number of known tokens grows")
    tokens("--counts", choices=["proportional", "cumulative"], default="proportional", help="of confidence: v1 or v2")
    tokens("--gumbel-temperature", type=float, default=4.5, help="of confidence: its noise at the first step")
    tokens("--inverse-temperature", type=float, default=1.0, help="multiplies the logits; above 1 sharpens")
    tokens("--warmup-steps", type=int, default=0, help="first steps with half of the inverse temperature")
    tokens("--top-k", type=int, help="draw from so many likeliest codes; all")
    tokens("--halton-shift", action="store_true", help="of halton: start the order elsewhere in each picture")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to sample")
    add("--png", action="store_true", help="write every image as a PNG, too")
    add("--npz", action="store_true", help="write samples.npz (arr_0 uint8 [N, H, W, 3]) for the ADM evaluation suite")
    arguments = parser.parse_args()
    run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    generator = load_generator(arguments.checkpoint)
    source = arguments.autoencoder or generator.autoencoder_source
    if source is None:
        raise ValueError(f"checkpoint {arguments.checkpoint} names no autoencoder: give --autoencoder")
    settings = SamplingSettings.from_options(vars(arguments))
    generator.backbone.to(arguments.device)
    autoencoder = load_autoencoder(source).freeze()
    labels = choose_labels(torch.arange(arguments.num_images), generator.num_classes, arguments.labels, settings.seed)

    started = time.perf_counter()
    batches = generate_images(generator, autoencoder, labels, settings, arguments.batch_size)
    total = -(-len(labels) // arguments.batch_size)
    images = torch.cat(list(track(batches, "sampling", total)))
    seconds = time.perf_counter() - started

    folder = Path(arguments.output)
    save_png(image_grid(images[:100]), folder / "grid.png")
    if arguments.npz:
        pixels = images.permute(0, 2, 3, 1).numpy()
        write_atomically(folder / "samples.npz", lambda file: np.savez(file, arr_0=pixels))
    for index, image in enumerate(images if arguments.png else []):
        save_png(image, folder / f"{index:06d}.png")
    about = dataclasses.asdict(settings) | {
        "sampler": settings.sampler or generator.default_sampler,
        "checkpoint": str(arguments.checkpoint),
        "num_steps": generator.num_steps,
        "autoencoder": str(source),
        "num_images": len(images),
        "labels": arguments.labels,
        "images_per_second": len(images) / seconds,
    }
    write_atomically(folder / "samples.json", (json.dumps(about, indent=2) + "\n").encode())
    print(f"{len(images)} images, {len(images) / seconds:.1f} per second: {folder}/grid.png")


if __name__ == "__main__":
    main()

"""Images from a trained generator: `sample.py --checkpoint last.ckpt --output samples`.

The averaged weights are sampled and decoded by the autoencoder that made the latents. All noise of image i is keyed by
i, and on a processor it is computed in batches of one size: it is the same, to the last bit, for any batch size and
number of processes. On a GPU batch sizes differ in the last bits, by one level in few pixels. An interrupted start goes
on when it is repeated. Several devices: `torchrun --nproc-per-node 8 sample.py ...`.
"""

import argparse
import dataclasses
import os
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from dit.checkpoints import Generator
from dit.generation import choose_labels, make_images, require_guidable
from dit.sample_files import SampleFolder, fill, wait_for_record
from dit.samplers import SamplingSettings
from dit.sampling import open_generator
from dit.sampling_options import add_sampling_options, sampling_settings
from eqvae.autoencoders import Autoencoder
from eqvae.autoencoders.families import FAMILIES
from eqvae.commands import CommandParser, run_command
from eqvae.files import sha256_of_file
from eqvae.fixed_batches import whole_batches
from eqvae.locks import Lock
from eqvae.options import require_device
from twostage.cli.after_sampling import end_sampling
from twostage.cli.sampling_progress import SamplingProgress


def main() -> None:
    about = (__doc__ or "").split("\n\n")[0]  # without docstrings, as under python -OO, there is none
    parser = CommandParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--checkpoint", required=True, help="checkpoint of a generator (.ckpt), or a public one of DiT or SiT (.pt)")
    add("--ema-decay", type=float, help="which moving average, where the run kept several; the first")
    add("--family", choices=["DiT", "SiT"], help="of a public checkpoint, which does not tell")
    add("--num-heads", type=int, help="of a public checkpoint of a width that was not published")
    add("--autoencoder", help="folder, file or hub id that decodes; the one named in the checkpoint")
    add("--autoencoder-family", choices=list(FAMILIES), help="of a single file whose architecture several share")
    other = "accept an autoencoder that did not make the latents, e.g. with a fine-tuned decoder"
    add("--allow-other-autoencoder", action="store_true", help=other)
    add("--output", default="samples", help="folder for the results")
    add("--num-images", type=int, default=100, help="how many images")
    add("--batch-size", type=int, default=100, help="images at a time, in whole tens on a processor")
    add("--labels", default="balanced", help="balanced, random, or class numbers separated by commas")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to sample")
    add("--png", action="store_true", help="write every image as a PNG, too")
    add("--npz", action="store_true", help="write samples.npz (arr_0 uint8 [N, H, W, 3]) for the ADM evaluation suite")
    run_command(lambda: _run(add_sampling_options(parser).parse_args()))


def _run(arguments: argparse.Namespace) -> None:
    rank = int(os.environ.get("RANK", 0))
    if arguments.num_images < 1 or arguments.batch_size < 1:
        raise ValueError("--num-images and --batch-size must be at least 1")
    require_device(arguments.device)
    settings = sampling_settings(arguments)
    generator, autoencoder, source = open_generator(
        arguments.checkpoint,
        arguments.autoencoder,
        autoencoder_family=arguments.autoencoder_family,
        allow_other_autoencoder=arguments.allow_other_autoencoder,
        family=arguments.family,
        num_heads=arguments.num_heads,
        ema_decay=arguments.ema_decay,
    )
    require_guidable(generator, settings.guidance_scale)
    settings = settings.spelled_out(generator.objective)
    labels = choose_labels(torch.arange(arguments.num_images), generator.num_classes, arguments.labels, settings.seed)
    about = dataclasses.asdict(settings) | {
        "checkpoint": str(arguments.checkpoint),
        "checkpoint_sha256": sha256_of_file(arguments.checkpoint),
        "num_steps": generator.num_steps,
        "objective": type(generator.objective).__name__,
        "autoencoder": str(source),
        "autoencoder_fingerprint": autoencoder.fingerprint(),
        "num_images": arguments.num_images,
        "labels": arguments.labels,
    }
    if rank > 0:
        wait_for_record(arguments.output)
    lock = Lock(Path(arguments.output) / ".lock", f"sample folder {arguments.output}")
    with lock if rank == 0 else nullcontext():
        folder = SampleFolder(arguments.output, about, whole_batches(arguments.batch_size))
        if not folder.finished or (rank == 0 and not _completed(folder, arguments)):
            _fill(folder, generator, autoencoder, labels, settings, arguments)
    if rank == 0:
        end_sampling(Path(arguments.output), arguments.checkpoint)


def _completed(folder: SampleFolder, arguments: argparse.Namespace) -> bool:
    """Whether a finished folder has all files that are wanted, written from its images where some were missing."""
    written = folder.complete(arguments.npz, arguments.png)
    if written is None:
        print(f"{folder.folder} has no longer the images that it was finished with: sampling them again")
        return False
    done = f"{', '.join(written)} written from its images" if written else "nothing to do"
    print(f"{folder.folder} is finished: {done}")
    return True


def _fill(
    folder: SampleFolder,
    generator: Generator,
    autoencoder: Autoencoder,
    labels: torch.Tensor,
    settings: SamplingSettings,
    arguments: argparse.Namespace,
) -> None:
    """Make this process's share of a folder and, as the first one, assemble it."""
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device(arguments.device)
    if device.type == "cuda" and device.index is None:  # pyright: ignore[reportUnnecessaryComparison]  (torch errs)
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    generator.backbone.to(device)

    def make(part: range) -> tuple[torch.Tensor, dict[str, float]]:
        indices, started = torch.tensor(part), time.perf_counter()
        with progress.part(len(part)) as stepped:
            images, costs = make_images(
                generator, autoencoder, indices, labels[indices], settings, arguments.batch_size, stepped
            )
        return images, costs | {"seconds": time.perf_counter() - started}

    with SamplingProgress(folder, settings.num_inference_steps) as progress:
        fill(folder, make, rank, world_size)
    if rank == 0:
        folder.assemble(arguments.npz, arguments.png)
        speed = folder.results["images_per_second"]
        print(f"{len(labels)} images, {speed:.1f} per second and process")

"""`sample`: images from a trained generator, into a folder that can be gone on with."""

import argparse
import dataclasses
import hashlib
import math
import os
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from dit.checkpoints import Generator, sha256_of_checkpoint
from dit.generation import make_images, require_guidable
from dit.labels import choose_labels, names_path
from dit.sample_files import SampleFolder, fill, wait_for_record
from dit.samplers import SamplingSettings
from dit.sampling import open_generator
from dit.sampling_options import sampling_settings
from eqvae.autoencoders import Autoencoder
from eqvae.fixed_batches import whole_batches
from eqvae.locks import Lock
from eqvae.options import choose_device
from eqvae.precision import AUTO, choose_precision
from eqvae.ranges import require_number
from twostage.commands.after_sampling import end_sampling
from twostage.commands.sampling_progress import SamplingProgress

MOST_IMAGES = 1_000_000_000


def run(arguments: argparse.Namespace) -> None:
    rank = int(os.environ.get("RANK", 0))
    for option in ("num_images", "batch_size"):
        require_number(f"--{option.replace('_', '-')}", getattr(arguments, option), least=1, most=MOST_IMAGES)
    arguments.device = choose_device(arguments.device)
    settings = sampling_settings(arguments)
    written = _written(arguments.checkpoint)
    generator, autoencoder, source = open_generator(
        arguments.checkpoint,
        arguments.autoencoder,
        autoencoder_family=arguments.autoencoder_family,
        allow_other_autoencoder=arguments.allow_other_autoencoder,
        family=arguments.family,
        num_heads=arguments.num_heads,
        ema_decay=arguments.ema_decay,
    )
    sha256 = sha256_of_checkpoint(arguments.checkpoint)
    if _written(arguments.checkpoint) != written:
        raise ValueError(f"checkpoint {arguments.checkpoint} was replaced while it was read: sample again, or a copy")
    generator.precision = _precision(arguments)
    require_guidable(generator.backbone, settings.guidance_scale)
    settings = settings.spelled_out(generator.objective, math.prod(generator.spec.shape[-2:]))
    labels = choose_labels(arguments.num_images, generator.num_classes, arguments.labels, settings.seed)
    about = dataclasses.asdict(settings) | {
        "checkpoint": str(arguments.checkpoint),
        "checkpoint_sha256": sha256,
        "num_steps": generator.num_steps,
        "objective": type(generator.objective).__name__,
        "autoencoder": str(source),
        "autoencoder_fingerprint": autoencoder.fingerprint(),
        "num_images": arguments.num_images,
        "labels": arguments.labels,
    }
    if names_path(arguments.labels):  # other labels in the same place are other images
        about["labels_sha256"] = hashlib.sha256(labels.numpy().tobytes()).hexdigest()
    if generator.precision != "float32":
        about["precision"] = generator.precision
    told = {name: getattr(arguments, name) for name in ("ema_decay", "family", "num_heads")}
    about |= {name: value for name, value in told.items() if value is not None}
    if rank > 0:
        wait_for_record(arguments.output)
    lock = Lock(Path(arguments.output) / ".lock", f"sample folder {arguments.output}")
    with lock if rank == 0 else nullcontext():
        folder = SampleFolder(arguments.output, about, whole_batches(arguments.batch_size))
        if not folder.finished or (rank == 0 and not _completed(folder, arguments)):
            _fill(folder, generator, autoencoder, labels, settings, arguments)
    if rank == 0:
        end_sampling(Path(arguments.output), arguments.checkpoint)


def _written(checkpoint: str) -> int | None:
    """When a checkpoint was last written; None where there is none."""
    return os.stat(checkpoint).st_mtime_ns if os.path.exists(checkpoint) else None


def _precision(arguments: argparse.Namespace) -> str:
    if arguments.precision != AUTO:
        return arguments.precision
    chosen, reason = choose_precision(torch.device(arguments.device))
    print(reason)
    return chosen


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
    if arguments.compile:
        generator.backbone.compile()

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

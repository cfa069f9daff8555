"""Writing a latent cache (decoding JPEG files, encoding image and flip, storing) against the bare encoder.

The bare encoder runs on one batch that is ready in memory; its images/s are the ceiling.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import lightning
import torch
from measure import add_precision, choose, describe_device, ratios, report, time_in_turns
from PIL import Image

from eqvae.caching import LatentCaching
from eqvae.commands import run_command
from eqvae.data import FolderSource, ImageDataModule, ShapesSource
from eqvae.losses import ReconstructionLoss
from eqvae.module import AutoencoderModule
from eqvae.precision import encoding
from eqvae.training.messages import leave_out_noise


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--channels", type=int, nargs="+", default=[64, 128, 128], help="widths; each but the last halves the side")
    add("--image-size", type=int, default=128, help="side of the images")
    add("--num-images", type=int, default=64, help="images in the cache")
    add("--batch-size", type=int, default=16, help="images at a time")
    add("--num-workers", type=int, default=1, help="processes that decode")
    add_precision(parser, "of the encoder")
    add("--repeats", type=int, default=3, help="timed rounds")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time the bare encoder and a whole cache in turns; one JSON-ready dict."""
    device = torch.device(arguments.device)
    arguments.precision = choose(arguments.precision, device)
    with tempfile.TemporaryDirectory() as folder:
        steps = {"bare": _bare_step(arguments, device), "cache": _cache_step(arguments, device, Path(folder))}
        timed = time_in_turns(steps, device, arguments.repeats, warmup=1)
    names = ("channels", "image_size", "num_images", "batch_size", "num_workers", "precision")
    return {
        "benchmark": "encoding",
        **{name: getattr(arguments, name) for name in names},
        **timed,
        "bare_images_per_second": arguments.num_images / timed["bare"]["seconds"],
        "cache_images_per_second": arguments.num_images / timed["cache"]["seconds"],
        **ratios(timed, "bare", "cache"),
        **describe_device(device),
    }


def _module(arguments: argparse.Namespace, folder: Path | None = None) -> AutoencoderModule:
    blocks = len(arguments.channels)
    autoencoder = {
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "block_out_channels": arguments.channels,
        "latent_channels": 4,
    }
    loss = ReconstructionLoss(perceptual="none")
    return AutoencoderModule(
        autoencoder,
        reconstruction=loss,
        cache=LatentCaching(
            folder=str(folder / "latents") if folder else None,
            encoding_precision="bfloat16" if arguments.precision == "bf16" else "float32",
        ),
    )


def _bare_step(arguments: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    """Encodes as many images as the cache has, and their flips."""
    autoencoder = _module(arguments).autoencoder.freeze().to(device)
    images = torch.rand(arguments.batch_size, 3, arguments.image_size, arguments.image_size, device=device) * 2 - 1

    @torch.no_grad()
    def encode() -> None:
        with encoding("bfloat16" if arguments.precision == "bf16" else "float32", device):
            for first in range(0, arguments.num_images, arguments.batch_size):
                batch = images[: arguments.num_images - first]
                autoencoder.encode(batch), autoencoder.encode(batch.flip(-1))

    return encode


def _cache_step(arguments: argparse.Namespace, device: torch.device, folder: Path) -> Callable[[], None]:
    """Writes a cache of JPEG files, anew each time."""
    images = folder / "images"
    images.mkdir()
    source = ShapesSource(arguments.num_images, arguments.image_size)
    for index in range(len(source)):
        Image.fromarray(source[index][0].permute(1, 2, 0).numpy()).save(images / f"{index:06d}.jpg", quality=95)
    data = ImageDataModule(
        FolderSource(str(images), arguments.image_size),
        evaluation_batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
    )
    leave_out_noise()
    module = _module(arguments, folder)

    def write() -> None:
        shutil.rmtree(folder / "latents", ignore_errors=True)
        options = {"accelerator": device.type, "devices": 1, "logger": False, "enable_progress_bar": False}
        lightning.Trainer(**options, default_root_dir=folder).predict(module, data, return_predictions=False)

    return write


if __name__ == "__main__":
    main()

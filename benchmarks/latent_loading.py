"""Reading a latent cache as training does: latents/s of the loader, posterior samples and flips included.

Writes a cache of random moments into a temporary folder first, in the layout of `train.py predict`.
"""

import argparse
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import torch
from measure import describe_device, report, time_in_turns

from dit.data import LatentDataModule
from eqvae.autoencoders import Normalization
from eqvae.commands import run_command
from eqvae.latents import LatentRows, ShardWriter

WARMUP = 1  # rounds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--num-latents", type=int, default=20_000, help="latents in the cache")
    add("--channels", type=int, default=4, help="of a latent")
    add("--size", type=int, default=32, help="side of a latent")
    add("--batch-size", type=int, default=256, help="latents per batch")
    add("--num-workers", type=int, nargs="+", default=[0, 2], help="loader processes, each count timed")
    add("--num-batches", type=int, default=100, help="of a round; one more round is read before")
    add("--repeats", type=int, default=5, help="timed rounds")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time the training loader for each number of workers; one JSON-ready dict."""
    with tempfile.TemporaryDirectory() as folder:
        _write_cache(Path(folder), arguments)
        steps = {f"{workers} workers": _round(folder, workers, arguments) for workers in arguments.num_workers}
        timed = time_in_turns(steps, torch.device("cpu"), arguments.repeats, WARMUP)
        gigabytes = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / 1e9
    num_latents = arguments.num_batches * arguments.batch_size
    return {
        "benchmark": "latent_loading",
        **{name: getattr(arguments, name) for name in ("num_latents", "channels", "size", "batch_size")},
        **timed,
        "latents_per_second": {name: num_latents / values["seconds"] for name, values in timed.items()},
        "cache_gigabytes": gigabytes,
        **describe_device(torch.device("cpu")),
    }


def _round(folder: str, num_workers: int, arguments: argparse.Namespace) -> Callable[[], None]:
    """Reads the next batches of one long training."""
    data = LatentDataModule(folder, arguments.batch_size, num_workers=num_workers)
    data.trainer = SimpleNamespace(
        max_steps=(WARMUP + arguments.repeats) * arguments.num_batches,
        global_step=0,
        global_rank=0,
        world_size=1,
        accumulate_grad_batches=1,
        lightning_module=None,
    )
    batches = iter(data.train_dataloader())

    def read() -> None:
        assert sum(1 for _ in islice(batches, arguments.num_batches)) == arguments.num_batches, "the training ended"

    return read


def _write_cache(folder: Path, arguments: argparse.Namespace) -> None:
    shape = (arguments.channels, arguments.size, arguments.size)
    dataset = {"fingerprint": "random", "num_images": arguments.num_latents, "num_classes": 1000, "class_names": None}
    writer = ShardWriter(folder, LatentRows(_RandomAutoencoder(shape)), dataset)
    for ids in torch.arange(arguments.num_latents).split(1000):
        writer.add({"image": torch.zeros(len(ids), 1, 1, 1), "label": ids % 1000, "index": ids})
    writer.finish()


class _RandomAutoencoder:
    """Random moments in place of an encoder."""

    source, draws = None, True  # no folder that a generator could take it from

    def __init__(self, shape: tuple[int, int, int]):
        self.shape, self.normalization, self.downsampling_factor = shape, Normalization(), 8

    def fingerprint(self) -> str:
        return "0" * 64

    def cached_rows(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        mean = torch.randn(len(images), *self.shape)
        return {"mean": mean, "log_std": torch.full_like(mean, -3.0)}


if __name__ == "__main__":
    main()

"""How fast a run is: images a second, operations a second, and the memory they take."""

import math
import os
import resource
import sys
import time
from typing import Any

import torch
from lightning.fabric.utilities.throughput import Throughput
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eqvae.devices import matmul_flops

TRAINING_OPERATIONS = 3  # a backward pass costs two forward passes
SHOWN = ("images_per_second", "mfu")  # in the progress bar
MUCH_WAITING = 0.1  # of the time


class ThroughputMonitor(Callback):
    """Logs speed over a sliding window of batches: the device is never waited for.

    Logged every `log_every_n_steps` steps once the window is full, summed over all devices: `speed/images_per_second`,
    `speed/tflops` where the module tells its `flops_per_image` (of a forward pass; counted three times for training),
    `speed/mfu`, `speed/waiting`, the share of the time since the last validation in which the first device's process
    waited for batches, and `speed/peak_memory_gb`, of the first device, or of its whole process where that computes on
    the processor; images and `mfu` also in the progress bar. A validation starts a new window. Where a device waited
    for more than a tenth of the time, the end of the training says how many loader processes would hide that.
    `TrainCLI` adds one where a config has none.

    Args:
        window: batches over which speed is averaged.
        measure_peak: time a large matrix product in the run's precision at the start, and log as `speed/mfu` the
            share of its speed that training reaches.
    """

    def __init__(self, window: int = 50, measure_peak: bool = False):
        if window < 2:
            raise ValueError(f"window of the throughput must be at least 2 batches, got {window}")
        self.window, self.measure_peak = window, measure_peak
        self.peak_flops: float | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        if self.measure_peak:
            with trainer.precision_plugin.forward_context():
                self.peak_flops = matmul_flops(device)
        self._throughput = Throughput(self.peak_flops, trainer.world_size, self.window)
        self._num_batches, self._num_images, self._step = 0, 0, trainer.global_step
        self._waiting = Waiting(trainer.train_dataloader)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._throughput.reset()  # what comes next starts a new window
            self._waiting.begin()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        advice = self._waiting.advice()
        if advice and trainer.strategy.root_device.type != "cpu":  # there loading takes the cores that train
            rank_zero_info(advice)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        num_images = len(batch["index"])
        self._num_batches += 1
        self._num_images += num_images
        self._waiting.count()
        operations = getattr(pl_module, "flops_per_image", None)
        self._throughput.update(
            time=time.perf_counter(),
            batches=self._num_batches,
            samples=self._num_images,
            flops=TRAINING_OPERATIONS * operations * num_images if operations else None,
        )
        has_stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if has_stepped and trainer.global_step % trainer.log_every_n_steps == 0:
            self._log(trainer, pl_module)

    def _log(self, trainer: Any, pl_module: Any) -> None:
        measured = self._throughput.compute()
        names = {
            "device/samples_per_sec": ("images_per_second", trainer.world_size),
            "device/flops_per_sec": ("tflops", trainer.world_size / 1e12),
            "device/mfu": ("mfu", 1),
        }
        values = {name: measured[key] * factor for key, (name, factor) in names.items() if key in measured}
        if values:
            values["waiting"] = self._waiting.share
            values["peak_memory_gb"] = peak_memory(trainer.strategy.root_device) / 1e9
        for name, value in values.items():
            value = torch.tensor(float(value))  # Lightning would copy a number to the device, and read it there
            pl_module.log(f"speed/{name}", value, prog_bar=name in SHOWN, rank_zero_only=True)


class Waiting:
    """How long training waits for its batches, since `begin` and but for the first of them, which starts the loader.

    Args:
        loader: of training, an `eqvae.stream.TimedLoader`; others count as not waited for.
    """

    def __init__(self, loader: Any):
        self.loader = loader
        self.begin()

    def begin(self) -> None:
        self.num_batches, self.seconds, self.seconds_waited = -1, 0.0, 0.0

    def count(self) -> None:
        """A batch was trained on."""
        self.num_batches += 1
        now, waited = time.perf_counter(), getattr(self.loader, "seconds_waited", 0.0)
        if self.num_batches == 0:
            self._first = (now, waited)
        self.seconds, self.seconds_waited = now - self._first[0], waited - self._first[1]

    @property
    def share(self) -> float:
        """Of the time, 0 before the second batch."""
        return self.seconds_waited / self.seconds if self.seconds else 0.0

    @property
    def wanted_workers(self) -> int:
        """Loader processes that would make batches as fast as training takes them."""
        now = self.loader.num_workers
        seconds_to_load = now * self.seconds if now else self.seconds_waited
        return math.ceil(seconds_to_load / (self.seconds - self.seconds_waited))

    def advice(self) -> str | None:
        """A line for people where much of the time was waited."""
        if self.share <= MUCH_WAITING:
            return None
        setting = f"data.init_args.num_workers {self.loader.num_workers}"
        return (
            f"training waited for data in {self.share:.0%} of its time with {setting}: "
            f"{self.wanted_workers} would hide that (this machine has {os.cpu_count()} cores)"
        )


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that torch had allocated on a CUDA device, else the most that this process had resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

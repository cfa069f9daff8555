"""How fast a run is: images a second, operations a second, and the memory they take."""

import resource
import sys
import time
from typing import Any

import torch
from lightning.fabric.utilities.throughput import Throughput
from lightning.pytorch.callbacks import Callback

from eqvae.devices import matmul_flops

TRAINING_OPERATIONS = 3  # a backward pass costs two forward passes
SHOWN = ("images_per_second", "mfu")  # in the progress bar


class ThroughputMonitor(Callback):
    """Logs speed over a sliding window of batches: the device is never waited for.

    Logged every `log_every_n_steps` steps once the window is full, summed over all devices: `speed/images_per_second`,
    `speed/tflops` where the module tells its `flops_per_image` (of a forward pass; counted three times for training),
    `speed/mfu`, and `speed/peak_memory_gb`, of the first device, or of its whole process where that computes on the
    processor; images and `mfu` also in the progress bar. A validation starts a new window. `TrainCLI` adds one where a
    config has none.

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
        self._num_batches = self._num_images = 0

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._throughput.reset()  # what comes next starts a new window

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        num_images = len(batch["index"])
        self._num_batches += 1
        self._num_images += num_images
        operations = getattr(pl_module, "flops_per_image", None)
        self._throughput.update(
            time=time.perf_counter(),
            batches=self._num_batches,
            samples=self._num_images,
            flops=TRAINING_OPERATIONS * operations * num_images if operations else None,
        )
        if trainer.global_step % trainer.log_every_n_steps == 0:
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
            values["peak_memory_gb"] = peak_memory(trainer.strategy.root_device) / 1e9
        for name, value in values.items():
            value = torch.tensor(float(value))  # Lightning would copy a number to the device, and read it there
            pl_module.log(f"speed/{name}", value, prog_bar=name in SHOWN, rank_zero_only=True)


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that torch had allocated on a CUDA device, else the most that this process had resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

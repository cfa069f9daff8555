"""What all benchmarks share: timing in turns, the device's own peak, memory, and the JSON they print."""

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from eqvae.precision import choose_precision, encoding, float32_products

MATMUL_SIDE = {"cpu": 1024, "cuda": 8192}
DTYPES = {"32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def synchronize(device: torch.device) -> None:
    """Wait for the device; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turns(
    steps: dict[str, Callable[[], object]], device: torch.device, repeats: int = 5, warmup: int = 2, inner: int = 1
) -> dict[str, dict[str, float]]:
    """Time several functions in turns, so that a slow minute of the machine meets all of them alike.

    Args:
        steps: name -> function without arguments.
        repeats: rounds that are timed.
        warmup: rounds before, which compile and fill caches.
        inner: calls per timing.

    Returns:
        name -> `seconds` (median of one call), `spread` (largest over smallest round), both again of processor
        time, which other work on the machine lengthens less, and `working_memory_gib`: the peak above what lay in
        memory before the call, which is what all the functions keep.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    processor: dict[str, list[float]] = {name: [] for name in steps}
    memory = dict.fromkeys(steps, 0.0)
    for round_index in range(warmup + repeats):
        for name, step in steps.items():
            reset_peak_memory(device)
            kept = peak_memory_gib(device)
            synchronize(device)
            started, started_processor = time.perf_counter(), processor_seconds()
            for _ in range(inner):
                step()
            synchronize(device)
            if round_index >= warmup:
                seconds[name].append((time.perf_counter() - started) / inner)
                processor[name].append((processor_seconds() - started_processor) / inner)
                memory[name] = max(memory[name], peak_memory_gib(device) - kept)
    return {
        name: {
            "seconds": statistics.median(seconds[name]),
            "spread": max(seconds[name]) / min(seconds[name]),
            "processor_seconds": statistics.median(processor[name]),
            "processor_spread": max(processor[name]) / min(processor[name]),
            "working_memory_gib": memory[name],
        }
        for name in steps
    }


def processor_seconds() -> float:
    """What this process and its children that have ended have computed."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def ratios(timed: dict[str, dict[str, float]], base: str, name: str, prefix: str = "") -> dict[str, float]:
    """How many times as fast as `base` a step is, by the clock and by processor time."""
    return {
        f"{prefix}{kind}ratio": timed[base][f"{kind}seconds"] / timed[name][f"{kind}seconds"]
        for kind in ("", "processor_")
    }


def in_precision(step: Callable[[], object], precision: str, device: torch.device) -> Callable[[], object]:
    """A step whose float32 products are IEEE 754's ("32") or TF32's; of "bf16" the step takes care itself."""

    def call() -> None:
        if precision == "32":
            products = encoding("float32", device)
        else:
            products = float32_products("high" if precision == "tf32" else "highest", device)
        with products:
            step()

    return call


def add_precision(parser: argparse.ArgumentParser, what: str) -> None:
    text = f"{what}; auto: the faster one of 32 and bf16 on this device, as measured"
    parser.add_argument("--precision", choices=[*DTYPES, "auto"], default="auto", help=text)


def choose(precision: str, device: torch.device) -> str:
    """What `--precision` stands for on this device."""
    if precision != "auto":
        return precision
    return {"float32": "32", "bfloat16": "bf16"}[choose_precision(device)[0]]


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak: of the device's allocator, or (Linux) of this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_gib(device: torch.device) -> float:
    """Peak since the last reset, in GiB: allocated on the device, or resident in the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class CountFlops(TorchDispatchMode):
    """Adds up the operations of products and convolutions; torch's own counter fails inside `autograd.grad`."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def matmul_peak_tflops(device: torch.device, precision: str) -> float:
    """TFLOP/s of a large square matrix product on this device, the ceiling that shares are given of."""
    side = MATMUL_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
    product = in_precision(lambda: a @ b, precision, device)
    timed = time_in_turns({"matmul": product}, device, repeats=5, warmup=2)
    return 2 * side**3 / timed["matmul"]["seconds"] / 1e12


def describe_device(device: torch.device) -> dict[str, str | int]:
    """What the numbers were taken on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def report(values: dict) -> None:
    """Print one JSON object, numbers to four digits."""
    print(json.dumps(_rounded(values), indent=2))


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value

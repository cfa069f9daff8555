"""A training step of stage 2: forward, loss, backward, clipping, AdamW, moving average.

Times float32 eager and the chosen mode in turns; with `--reference PATH`, a checkout of the public DiT, also its model
in float32 eager, in the same process.
"""

import argparse
import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from generators import create_random_generator, random_data
from measure import (
    add_precision,
    choose,
    describe_device,
    in_precision,
    matmul_peak_tflops,
    ratios,
    report,
    synchronize,
    time_in_turns,
)
from torch import nn
from torch.autograd import DeviceType
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.profiler import ProfilerActivity

from dit.backbones.flops import num_multiply_adds, num_parameters
from dit.module import GeneratorModule
from eqvae.commands import run_command

SETTINGS = (
    "backbone",
    "input_size",
    "batch_size",
    "accumulate",
    "gradient_checkpointing",
    "precision",
    "compile",
)
NUM_PROFILED = 15  # operations that are told
BACKWARD_FACTOR = 3  # a training step costs a forward pass and twice that for the backward


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--backbone", default="DiT-S/2", help="published size, e.g. SiT-XL/2 or MaskGIT-v1")
    add("--input-size", type=int, default=32, help="side of the latents or tokens")
    add("--batch-size", type=int, default=8, help="latents per step")
    add_precision(parser, "of our step; float32 is timed beside it")
    add("--compile", action="store_true", help="torch.compile our step")
    add("--accumulate", type=int, default=1, help="batches per step, of which each is so much smaller")
    add("--gradient-checkpointing", action="store_true", help="compute our blocks anew in the backward pass")
    add("--profile", action="store_true", help="also tell what our step spends its time on")
    add("--repeats", type=int, default=5, help="timed rounds")
    add("--reference", help="checkout of the public DiT, whose model is timed in turns with ours")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time all variants in turns; one JSON-ready dict."""
    device = torch.device(arguments.device)
    arguments.precision = choose(arguments.precision, device)
    if arguments.accumulate < 1 or arguments.batch_size % arguments.accumulate:
        raise ValueError(
            f"--batch-size {arguments.batch_size} does not divide into --accumulate {arguments.accumulate}"
        )
    ours, eager = (create_random_generator(arguments.backbone, arguments.input_size).backbone for _ in range(2))
    ours.gradient_checkpointing = arguments.gradient_checkpointing
    variants = {
        "float32_eager": training_step(eager, device, arguments, "32", False),
        "ours": training_step(ours, device, arguments, arguments.precision, arguments.compile),
    }
    if arguments.reference:
        public = load_reference(arguments.reference, arguments.backbone, arguments.input_size)
        variants["reference"] = training_step(public, device, arguments, "tf32", False)  # as DiT and SiT train
    timed = time_in_turns(variants, device, arguments.repeats)
    flops = 2 * BACKWARD_FACTOR * num_multiply_adds(ours) * arguments.batch_size
    peak = matmul_peak_tflops(device, arguments.precision)
    for values in timed.values():
        values["images_per_second"] = arguments.batch_size / values["seconds"]
        values["tflops"] = flops / values["seconds"] / 1e12
    base = "reference" if arguments.reference else "float32_eager"
    return {
        "benchmark": "train_step",
        **{name: getattr(arguments, name) for name in SETTINGS},
        "num_parameters": num_parameters(ours),
        **timed,
        **ratios(timed, base, "ours"),
        "ratio_to": base,
        "matmul_peak_tflops": peak,
        "share_of_matmul_peak": timed["ours"]["tflops"] / peak,
        **({"profile": profile(variants["ours"], device)} if arguments.profile else {}),
        **describe_device(device),
    }


def training_step(
    backbone: nn.Module, device: torch.device, arguments: argparse.Namespace, precision: str, compiled: bool
) -> Callable[[], None]:
    """One full step of our module on random data, the next positions of the stream each time."""
    generator = create_random_generator(arguments.backbone, arguments.input_size)
    if not hasattr(backbone, "config"):  # a public model: our module asks for this one entry
        backbone.config = {"class_dropout_prob": 0.0}
    module = GeneratorModule(backbone, generator.objective).to(device)
    public = isinstance(backbone, _TakesDropMask)
    optimizer = torch.optim.AdamW(backbone.parameters(), 1e-4, weight_decay=0.0, fused=not public)
    parameters = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    average, update = [parameter.detach().clone() for parameter in parameters], get_ema_multi_avg_fn(0.9999)
    loss_terms = torch.compile(module.loss_terms) if compiled else module.loss_terms
    latents = random_data(generator.spec, arguments.batch_size).to(device)
    labels = torch.zeros(len(latents), dtype=torch.long, device=device)
    first_position = itertools.count(0, len(latents))

    def step() -> None:
        start = next(first_position)
        keys = torch.arange(start, start + len(latents), device=device)
        whole = {"latents": latents, "label": labels, "key": keys}
        chunks = zip(*(value.chunk(arguments.accumulate) for value in whole.values()), strict=True)
        for batch in (dict(zip(whole, chunk, strict=True)) for chunk in chunks):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = loss_terms(batch)["loss"].mean() / arguments.accumulate
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        update(average, parameters, 1)

    return in_precision(step, precision, device)


def profile(step: Callable[[], object], device: torch.device) -> list[dict[str, object]]:
    """What takes most of one step on the device: kernels there, operations on a processor, with their share."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities) as profiled:
        step()
        synchronize(device)
    events = profiled.key_averages()
    if on_gpu:  # an operation has the time of its kernels, too: only these are counted
        kernels = (each for each in events if each.device_type == DeviceType.CUDA and not each.is_user_annotation)
        times = {each.key: each.self_device_time_total for each in kernels}
    else:
        times = {each.key: each.self_cpu_time_total for each in events}
    total = sum(times.values()) or 1
    largest = sorted(times, key=lambda name: -times[name])[:NUM_PROFILED]
    return [{"name": name[:100], "share": times[name] / total} for name in largest]


def load_reference(folder: str, name: str, input_size: int) -> nn.Module:
    """The model of a public DiT or SiT checkout: `models.py` with its table of sizes.

    Raises:
        ValueError: if the folder is no such checkout.
    """
    path = Path(folder) / "models.py"
    if not path.is_file():
        raise ValueError(f"{path} does not exist: --reference takes a checkout of the public DiT (or SiT)")
    specification = importlib.util.spec_from_file_location("reference_models", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules["reference_models"] = module
    specification.loader.exec_module(module)
    table = getattr(module, f"{name.split('-')[0]}_models", {})
    if name not in table:
        raise ValueError(f"{path} knows no {name}: its table has {', '.join(table) or 'nothing'}")
    return _TakesDropMask(table[name](input_size=input_size, num_classes=1000))


class _TakesDropMask(nn.Module):
    """A public model behind our call: it draws its dropped labels itself."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.in_channels = model.train(), model.in_channels

    def forward(self, x, t, y, drop_labels=None):
        return self.model(x, t, y)


if __name__ == "__main__":
    main()

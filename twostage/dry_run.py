"""What a sweep will cost, before anything runs: steps and images of each node, and what it will leave on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from eqvae.autoencoders.loading import PACKAGED
from twostage.configs import value_at
from twostage.graph.store import has_failed, is_done
from twostage.plan import Node, plan, unique
from twostage.schema import Sweep

BYTES_PER_WEIGHT = 4
TRAINED_COPIES = 4
"""Of the weights in a generator's checkpoint: weights, average, and the two moments of AdamW."""
CACHED_MOMENTS = 4
"""Per latent: mean and deviation of the picture and of its mirror image, in two bytes each."""


@dataclass(frozen=True)
class Estimate:
    """Training steps, images that go through a network, and bytes on disk; None where it cannot be known yet."""

    num_steps: int = 0
    num_images: int | None = 0
    num_bytes: int | None = 0


def dry_run(sweep: Sweep, console: Console) -> None:
    """Print the plan: each node's address, inputs, state and cost, the report last, and what is still to be spent."""
    root = Path(sweep.root)
    nodes = plan(sweep)
    latents = latent_shape(sweep)
    estimates = {node.address: estimate(node, latents) for node in unique(nodes)}
    seen: dict[str, str] = {}
    for node in nodes:
        inputs = ", ".join(other.name for other in node.inputs.values()) or "-"
        state = "done" if is_done(node, root) else "failed" if has_failed(node, root) else "to do"
        state = f"same as {seen[node.address]}" if node.address in seen else state
        seen.setdefault(node.address, node.name)
        _print(console, f"{node.address}  {node.name}  <- {inputs}  [{state}]  {_text(estimates[node.address])}")
    _print(console, f"{'':12}  report  <- all")
    remaining = [node for node in unique(nodes) if not is_done(node, root)]
    total = _sum([estimates[node.address] for node in remaining])
    _print(console, f"to do: {len(remaining)} of {len(unique(nodes))} parts, {_text(total)}")


def estimate(node: Node, latents: tuple[int, ...] | None) -> Estimate:
    """Cost of one node, `latents` being the shape of a cached latent."""
    return ESTIMATES.get(node.kind, lambda node, latents: Estimate())(node, latents)


def latent_shape(sweep: Sweep) -> tuple[int, ...] | None:
    """Channels, height and width as the first generator expects them."""
    config = next(node for node in plan(sweep) if node.kind == "generator").settings["config"]
    backbone = value_at(config, "model.init_args.backbone.init_args", {})
    if "in_channels" not in backbone or "input_size" not in backbone:
        return None
    return backbone["in_channels"], backbone["input_size"], backbone["input_size"]


def _autoencoder(node: Node, latents: tuple | None) -> Estimate:
    config = node.settings["config"]
    steps, size = config["trainer"]["max_steps"], _autoencoder_bytes(node)
    # The folder, and weights with both moments of Adam in each checkpoint: the asked ones, the last two.
    copies = 1 + 3 * (2 + len(node.settings["at_steps"]))
    return Estimate(steps, steps * batch_size(config), None if size is None else copies * size)


def _one_autoencoder(node: Node, latents: tuple | None) -> Estimate:
    return Estimate(num_bytes=_autoencoder_bytes(node))


def _diagnostics(node: Node, latents: tuple | None) -> Estimate:
    data = node.settings["config"]["data"]
    images = count_images(value_at(data, "init_args.validation", {}))
    limit = node.settings["config"]["trainer"].get("limit_val_batches")
    if isinstance(limit, int):
        images = limit * value_at(data, "init_args.evaluation_batch_size", 100)
    return Estimate(num_images=images)


def _latents(node: Node, latents: tuple | None) -> Estimate:
    images = count_images(value_at(node.settings["config"], "data.init_args.train", {}))
    if images is None or latents is None:
        return Estimate(num_images=images, num_bytes=None)
    values = latents[0] * latents[1] * latents[2]
    return Estimate(num_images=images, num_bytes=images * values * CACHED_MOMENTS * 2)


def _generator(node: Node, latents: tuple | None) -> Estimate:
    config = node.settings["config"]
    steps = config["trainer"]["max_steps"]
    weights = count_weights(value_at(config, "model.init_args.backbone", {}))
    checkpoints = len(node.settings["at_steps"]) + 2
    size = None if weights is None else weights * BYTES_PER_WEIGHT * TRAINED_COPIES * checkpoints
    return Estimate(steps, steps * batch_size(config), size)


def _pictures(node: Node, latents: tuple | None) -> Estimate:
    return Estimate(num_images=node.settings["num_images"])


ESTIMATES: dict[str, Callable[[Node, tuple | None], Estimate]] = {
    "ready": _one_autoencoder,
    "autoencoder": _autoencoder,
    "snapshot": _one_autoencoder,
    "diagnostics": _diagnostics,
    "latents": _latents,
    "generator": _generator,
    "reference": _pictures,
    "evaluation": _pictures,
}


def batch_size(config: dict[str, Any]) -> int:
    """Images per optimizer step, of all devices and accumulated batches together."""
    default = 10 if value_at(config, "data.class_path", "").endswith("ImageDataModule") else 256
    return value_at(config, "data.init_args.global_batch_size", default)


def count_images(source: dict[str, Any] | None) -> int | None:
    """Pictures of a source; a folder's or a file's are counted where they lie here, up to the source's own limit."""
    settings = (source or {}).get("init_args", {})
    if "source" in settings:
        return count_images(settings["source"])
    named = settings.get("num_images") or settings.get("max_images")
    if named:
        return named
    folder = Path(settings["root"]) if "root" in settings else None
    if folder is None or not folder.is_dir():
        return None
    return sum(path.is_file() for path in folder.rglob("*.*"))


def count_weights(backbone: dict[str, Any]) -> int | None:
    """Weights of a backbone's config, built without memory; None where it cannot be built here."""
    module, _, name = str(backbone.get("class_path", "")).rpartition(".")
    if not module.startswith("dit."):
        return None
    try:
        with torch.device("meta"):
            network = getattr(import_module(module), name)(**backbone.get("init_args", {}))
    except (ValueError, TypeError, RuntimeError, NotImplementedError, ImportError, AttributeError):
        return None
    return sum(parameter.numel() for parameter in network.parameters())


def _autoencoder_bytes(node: Node) -> int | None:
    """Size of the weights that an autoencoder has or starts from; None for a hub id or random weights."""
    while "start" in node.inputs:
        node = node.inputs["start"]
    source = node.settings.get("autoencoder")
    return _weights_bytes(source) if isinstance(source, str) else None


@cache
def _weights_bytes(source: str) -> int | None:
    folder = Path(source) if Path(source).is_dir() else Path(str(PACKAGED / source))
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) or None


def _sum(estimates: list[Estimate]) -> Estimate:
    """Totals; unknown parts make them lower bounds, which their text says."""
    images = [each.num_images for each in estimates]
    sizes = [each.num_bytes for each in estimates]
    total = Estimate(sum(each.num_steps for each in estimates), sum(n or 0 for n in images), sum(n or 0 for n in sizes))
    unknown = images.count(None) + sizes.count(None)
    return total if not unknown else _LowerBound(total.num_steps, total.num_images, total.num_bytes)


class _LowerBound(Estimate):
    """A total that some parts could not be added to."""


def _text(estimate: Estimate) -> str:
    sign = "at least " if isinstance(estimate, _LowerBound) else ""
    images = "? images" if estimate.num_images is None else f"{estimate.num_images:,} images"
    disk = "? MB" if estimate.num_bytes is None else f"{estimate.num_bytes / 1e6:,.1f} MB"
    return f"{sign}{estimate.num_steps:,} steps, {images}, {disk}"


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)

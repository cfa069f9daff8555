"""What a training step of a recipe keeps on a device, counted on the fake one: shapes are computed, values are not."""

import importlib
import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchvision.models import vgg16

from dit.backbones import DiT
from eqvae.autoencoders import load_autoencoder
from eqvae.autoencoders.families import FAMILIES
from eqvae.bases import load_config
from eqvae.losses import AdversarialLoss
from tests.fake_cuda import CUDA, fake_cuda

GIB = 2**30
FLOAT32 = 4  # bytes
OF_WEIGHT = 5 * FLOAT32  # the weight, its gradient, two moments and its average
BATCH_OF_COUNT = 4  # what is kept grows in proportion to the batch: counted at this one
IMAGE_SIDE = 256


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Args:
        weights: of weights, gradients, optimizer and average.
        kept: for the backward pass, of one sample.
        recomputed: of `kept`, what is not kept but made anew block by block, of one sample and all blocks.
        block: of the largest block, of one sample.
        entries: of the inputs of all blocks, of one sample.
    """

    weights: float
    kept: float
    recomputed: float = 0.0
    block: float = 0.0
    entries: float = 0.0

    def gib(self, batch: int, checkpointing: bool = False) -> float:
        """Of a step with this many samples at once."""
        kept = self.kept - self.recomputed + self.block + self.entries if checkpointing else self.kept
        return (self.weights + batch * kept) / GIB


class _Attention(torch.autograd.Function):
    """What the kernels of a GPU keep of attention: not its weights, which torch's own for a processor would."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, attended, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return attended

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, ...]:
        raise AssertionError("nothing goes back on a fake device")


def _attend(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    if torch.is_autocast_enabled("cuda"):
        query, key, value = (each.to(torch.get_autocast_dtype("cuda")) for each in (query, key, value))
    return _Attention.apply(query, key, value)


class Kept:
    """Bytes that autograd keeps, each storage once, without those of weights."""

    def __init__(self, *networks: nn.Module):
        self._known = {value.untyped_storage()._cdata for net in networks for value in net.state_dict().values()}
        self._alive: list[Tensor] = []  # a storage that is gone would give its address to another
        self.bytes = 0

    def pack(self, value: Tensor) -> Tensor:
        place = value.untyped_storage()._cdata
        if place not in self._known:
            self._known.add(place)
            self._alive.append(value)
            self.bytes += value.untyped_storage().nbytes()
        return value

    @contextmanager
    def counting(self):
        with (
            torch.autograd.graph.saved_tensors_hooks(self.pack, lambda value: value),
            mock.patch.object(F, "scaled_dot_product_attention", _attend),
        ):
            yield


def build(described: dict[str, Any]) -> Any:
    """The object of a `class_path` and its `init_args`."""
    module, _, name = described["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**described.get("init_args", {}))


def recipe_of(path: Path) -> dict[str, Any]:
    found = OmegaConf.to_container(load_config(path), resolve=False)
    assert isinstance(found, dict)
    return found


def generator_memory(recipe: dict[str, Any]) -> Memory:
    """Of a recipe of stage 2, without what an alignment adds (a projector of three layers)."""
    model = recipe["model"]["init_args"]
    backbone = model["backbone"] | {"init_args": model["backbone"]["init_args"].copy()}
    backbone["init_args"].pop("gradient_checkpointing", None)
    return _generator_memory(*map(json.dumps, (backbone, model["objective"])), recipe["trainer"]["precision"])


@cache
def _generator_memory(backbone: str, objective: str, precision: str) -> Memory:
    with torch.device("meta"):
        network = build(json.loads(backbone))
    weights = OF_WEIGHT * sum(each.numel() for each in network.parameters() if each.requires_grad)
    objective, bfloat16 = build(json.loads(objective)), precision == "bf16-mixed"
    depth = len(network.blocks)
    network.blocks = nn.ModuleList(list(network.blocks)[:2])  # all are alike
    with fake_cuda():
        network.to_empty(device=CUDA).train()
        of_two, block, entry = _kept_by_generator(network, objective, bfloat16)
    return Memory(weights, of_two + (depth - 2) * block, depth * block, block, depth * entry)


def _kept_by_generator(network: nn.Module, objective: Any, bfloat16: bool) -> tuple[float, float, float]:
    """Bytes of one sample: kept by two blocks and all around them, by the second block, and of what goes into it."""
    side, batch = network.config["input_size"], BATCH_OF_COUNT
    if isinstance(network, DiT):
        x = torch.randn(batch, network.in_channels, side, side, device=CUDA)
        noise = torch.randn_like(x)
    else:
        x = torch.zeros(batch, side, side, dtype=torch.long, device=CUDA)
        noise = torch.rand(batch, side, side, device=CUDA)
    keys, kept = torch.arange(batch, device=CUDA), Kept(network)
    times = objective.sample_times(torch.rand(batch, device=CUDA))
    block, counts, entries = network.blocks[1], [], []

    def note(_, given: tuple[Tensor, ...], *made: Tensor) -> None:
        counts.append(kept.bytes)
        entries.append(given[0].untyped_storage().nbytes())

    block.register_forward_pre_hook(note)
    block.register_forward_hook(note)
    with kept.counting(), torch.autocast("cuda", torch.bfloat16, enabled=bfloat16, cache_enabled=False):
        objective.loss_terms(network, x, noise, times, y=keys, drop_labels=keys > 1)["loss"].mean()
    of_all, of_block = kept.bytes - _casts(network, bfloat16), counts[1] - counts[0] - _casts(block, bfloat16)
    return of_all / batch, of_block / batch, entries[0] / batch


def _casts(network: nn.Module, bfloat16: bool) -> int:
    """Bytes of the matrices that autocast keeps in 16 bits: they do not grow with the batch."""
    return sum(each.numel() * 2 for each in network.parameters() if each.ndim > 1) if bfloat16 else 0


def autoencoder_memory(family: str, perceptual: bool, critic: bool, bfloat16: bool) -> Memory:
    """Of a recipe of stage 1 at 256 pixels: the autoencoder, and beside it LPIPS' network and the critic, if any."""
    networks: dict[str, nn.Module] = {}
    with torch.device("meta"):
        if perceptual:
            networks["perceptual"] = vgg16(weights=None).features[:30]
        if critic:
            networks["critic"] = AdversarialLoss().create_critic()
    autoencoder = load_autoencoder(FAMILIES[family])
    trained = [*autoencoder.parameters(), *(networks["critic"].parameters() if critic else ())]
    with fake_cuda():
        autoencoder.to(CUDA)
        for network in networks.values():
            network.to_empty(device=CUDA)
        kept = _kept_by_autoencoder(autoencoder, networks, bfloat16)
    return Memory(OF_WEIGHT * sum(each.numel() for each in trained), kept)


def _kept_by_autoencoder(autoencoder: Any, networks: dict[str, nn.Module], bfloat16: bool) -> float:
    kept, batch = Kept(autoencoder, *networks.values()), 1
    images = torch.zeros(batch, 3, IMAGE_SIDE, IMAGE_SIDE, device=CUDA)
    with kept.counting():
        with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16, cache_enabled=False):
            encoded = autoencoder.encode(images)
            decoded = autoencoder.decode(encoded.sample() if hasattr(encoded, "sample") else encoded.latents)
        if "perceptual" in networks:
            networks["perceptual"](decoded.float().detach().requires_grad_())
        if "critic" in networks:
            for shown in (decoded.float().detach().requires_grad_(), images, images):  # for each of the two networks
                networks["critic"](shown)
    return kept.bytes / batch


def largest_batch(memory: Memory, limit: float, checkpointing: bool = False) -> int:
    """Samples at once with which a step stays within so many GiB."""
    one, none = memory.gib(1, checkpointing), memory.gib(0, checkpointing)
    return math.floor((limit - none) / (one - none))

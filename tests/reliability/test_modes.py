"""The same mathematics in other modes: compiled, checkpointed, with other memory layouts, in bfloat16."""

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dit.backbones import BACKBONES
from eqvae.autoencoders import load_autoencoder
from eqvae.data import ShapesSource
from eqvae.losses.adversarial import PatchCritic
from eqvae.training.compiling import compile_network
from tests.dit.tiny import SIZES, randomize
from tests.eqvae.tiny import tiny_autoencoder
from tests.tiny import TINY_AUTOENCODER, needs_bfloat16

FLOAT32, BFLOAT16 = 1e-5, 2e-2


def images(count: int = 2, channels: int = 3, side: int = 32) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def generator(family: str) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    model = randomize(BACKBONES[family](**SIZES, num_classes=5)).train().requires_grad_(True)
    model.pos_embed.requires_grad_(False)
    times, labels, drop = torch.tensor([0.2, 0.7]), torch.tensor([1, 4]), torch.tensor([True, False])
    return model, lambda network: network(images(2, 4, 4), times, labels, drop_labels=drop)


def networks(name: str) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """A debug model, and what it computes of a batch."""
    if name in BACKBONES:
        return generator(name)
    if name == "critic":
        torch.manual_seed(0)
        return PatchCritic(num_layers=2, base_channels=8), lambda network: network(images())
    if name == "tiny autoencoder":
        return tiny_autoencoder().model.requires_grad_(True).train(), lambda network: network(images()).sample
    model, shapes = load_autoencoder("shapes-f4c8").model, ShapesSource(2, 32)
    batch = torch.stack([shapes[index][0] for index in range(2)]) / 127.5 - 1
    return model.requires_grad_(True).train(), lambda network: network(batch).sample


def loss_and_gradients(model: nn.Module, compute: Callable[[nn.Module], Tensor], called: nn.Module) -> list[Tensor]:
    model.zero_grad()
    loss = (compute(called) - 1).square().mean()
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def largest_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Relative to the norm of each; of gradients that are rounding alone, to that of all."""
    scale = 1e-3 * torch.stack([each.norm() for each in expected]).max()
    return max(float((a - b).norm() / b.norm().clamp(min=scale)) for a, b in zip(found, expected, strict=True))


@pytest.mark.reliability(27, long=True)
@pytest.mark.parametrize("name", ["SiT", "tiny autoencoder", "critic"])
def test_compiled(name, tmp_path, monkeypatch, reached):
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    model, compute = networks(name)
    expected = loss_and_gradients(model, compute, model)
    error = largest_error(loss_and_gradients(model, compute, torch.compile(model)), expected)
    assert error <= FLOAT32
    reached.largest("compiled", error)


@pytest.mark.reliability(27, long=True)
def test_compiled_at_several_sizes(tmp_path, monkeypatch, reached):
    """A decoder with attention at the sizes that scaled latents have; Inductor cannot take it whole."""
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    autoencoder = load_autoencoder(TINY_AUTOENCODER)
    model = autoencoder.model.requires_grad_(True).train()
    latents = [images(2, autoencoder.latent_channels, 8)[..., :side, :side] for side in (8, 6, 5)]
    decode = [lambda network, latent=latent: network.decode(latent).sample for latent in latents]
    expected = [loss_and_gradients(model, compute, model) for compute in decode]
    compile_network(model.decoder, (autoencoder.last_layer,), any_size=True)
    for compute, values in zip(decode, expected, strict=True):
        error = largest_error(loss_and_gradients(model, compute, model), values)
        assert error <= FLOAT32
        reached.largest("compiled", error)


def with_checkpointing(model):
    model.gradient_checkpointing = True


def with_channels_last(model):
    model.to(memory_format=torch.channels_last)


@pytest.mark.reliability(27)
@pytest.mark.parametrize(
    ("name", "mode", "change"),
    [(name, "gradient checkpointing", with_checkpointing) for name in ("DiT", "SiT")]
    + [(name, "channels_last", with_channels_last) for name in ("autoencoder", "critic")],
)
def test_the_same_mathematics_in_another_mode(name, mode, change, reached):
    model, compute = networks(name)
    expected = loss_and_gradients(model, compute, model)
    change(model)
    error = largest_error(loss_and_gradients(model, compute, model), expected)
    assert error <= FLOAT32
    reached.largest(mode, error)


@pytest.mark.reliability(27)
@pytest.mark.parametrize("name", ["DiT", "SiT", pytest.param("autoencoder", marks=needs_bfloat16), "critic"])
def test_bfloat16_forward(name, reached):
    model, compute = networks(name)
    with torch.no_grad():
        full = compute(model)
        with torch.autocast("cpu", torch.bfloat16):
            half = compute(model)
    assert half.dtype == torch.bfloat16
    error = float((half.float() - full).norm() / full.norm())
    assert error <= BFLOAT16
    reached.largest("bf16 forward", error)

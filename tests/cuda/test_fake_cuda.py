"""The fake device itself: what fails on a GPU fails on it, and every wait is counted once."""

import pytest
import torch

from tests.fake_cuda import CUDA, fake_cuda


@pytest.fixture
def device():
    with fake_cuda() as device:
        yield device


def test_tensors_on_the_processor_stay_real(device):
    values = torch.arange(4).square()
    assert values[values > 1].tolist() == [4, 9]
    assert not device.waits


@pytest.mark.parametrize(
    ("wait", "what"),
    [
        (lambda x: float(x.sum()), "a value is read"),
        (lambda x: bool((x > 0).all()), "a value is read"),
        (lambda x: x.cpu(), "a copy from the device"),
        (lambda x: torch.zeros(6).copy_(x), "a copy from the device"),
        (lambda x: torch.tensor([1.0], device=CUDA), "a copy to the device"),
        (lambda x: torch.ones(6).to(CUDA), "a copy to the device"),
        (lambda x: x.copy_(torch.ones(6)), "a copy to the device"),
        (lambda x: x[torch.tensor([0, 2])], "a copy of indices"),
        (lambda x: x[x > 0], "a boolean index"),
        (lambda x: (x > 0).nonzero(), "nonzero"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: torch.bincount(x.long(), minlength=3), "bincount"),
    ],
)
def test_what_makes_the_processor_wait_is_counted(device, wait, what):
    x = torch.ones(6, device=CUDA)
    assert not device.waits
    wait(x)
    (counted,) = device.waits
    assert counted.startswith(what)
    assert "tests/cuda/test_fake_cuda.py" in counted


def test_what_does_not_wait_is_not_counted(device):
    x = torch.ones(6).to(CUDA, non_blocking=True)
    y = torch.where(x > 0.5, 2, x) * torch.tensor(3.0) + torch.full((6,), 0.5, device=CUDA)
    y = y[torch.arange(3, device=CUDA)]
    assert y.device == CUDA
    assert y.shape == (3,)
    assert not device.waits


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + torch.ones(6),
        lambda x: torch.ones(6)[torch.zeros(2, dtype=torch.long, device=CUDA)],
        lambda x: torch.nn.functional.linear(x, torch.ones(6, 6)),
        lambda x: torch.cat((x, torch.ones(6))),
        lambda x: x.numpy(),
    ],
)
def test_what_mixes_devices_fails(device, mix):
    with pytest.raises((RuntimeError, TypeError)):
        mix(torch.ones(6, device=CUDA))


def test_modules_move_and_autocast_works(device):
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).to("cuda")
    assert {value.device for value in layer.state_dict().values()} == {CUDA}
    with torch.autocast("cuda", torch.bfloat16):
        assert layer[0](torch.ones(3, 2, device=CUDA)).dtype == torch.bfloat16


def test_backward_reaches_the_leaves_of_the_loss_alone(device):
    used, unused = (torch.nn.Parameter(torch.ones(2, device=CUDA)) for _ in range(2))
    (2 * used).sum().backward()
    assert used.grad.device == CUDA
    assert unused.grad is None
    with pytest.raises(AssertionError, match="the loss does not lie on the device"):
        torch.ones((), requires_grad=True).backward()

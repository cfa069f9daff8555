"""REPA's samplers, whose time runs from 1 (noise) to 0 (data), are ours with the time turned."""

import pytest

from dit.objectives import Flow
from dit.samplers import guide, sample
from tests.fixtures import load_fixture, relative_error


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("repa_samplers")


def turned_model(x, t, y):
    """The velocity noise - data at REPA's time 1 - t becomes data - noise at t."""
    t, y = 1 - t.view(-1, 1, 1, 1), y.view(-1, 1, 1, 1)
    return -((1.3 * x).sin() * (1 - 0.5 * t) - 0.2 * t + 0.01 * y)


CASES = ["cfg=1.0/interval=0.0-1.0", "cfg=1.8/interval=0.0-1.0", "cfg=1.8/interval=0.2-0.7"]


def guided_model(config, labels, case):
    scale, interval = (part.split("=")[1] for part in case.split("/"))
    low, high = map(float, interval.split("-"))
    return guide(turned_model, labels, float(scale), config["null_label"], interval=(1 - high, 1 - low))


@pytest.mark.parametrize("case", CASES)
def test_euler(fixture, case):
    tensors, config = fixture
    model = guided_model(config, tensors["y"], case)
    latents = sample(Flow(), model, tensors["x"].double(), "euler", config["num_steps"])
    assert relative_error(latents, tensors[f"ode/heun=0/{case}"]) < 1e-5


@pytest.mark.parametrize("case", [CASES[0], CASES[2]])
def test_euler_maruyama(fixture, case):
    tensors, config = fixture
    model, noise = guided_model(config, tensors["y"], case), tensors[f"sde/{case}/noise"].__getitem__
    latents = sample(Flow(), model, tensors["x"].double(), "euler_maruyama", config["num_steps"], noise)
    assert relative_error(latents, tensors[f"sde/{case}"]) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_heun(fixture, case):
    tensors, config = fixture
    model = guided_model(config, tensors["y"], case)
    latents = sample(Flow(), model, tensors["x"].double(), "repa_heun", config["num_steps"])
    assert relative_error(latents, tensors[f"ode/heun=1/{case}"]) < 1e-5

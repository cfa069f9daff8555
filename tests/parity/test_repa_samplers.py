"""REPA's samplers, whose time runs from 1 (noise) to 0 (data), are ours with the time turned."""

import pytest

from dit.objectives import Flow
from dit.samplers import guide, sample
from tests.fixtures import analytic_model, for_keys, load_fixture, relative_error

CASE = r"(?P<case>cfg=[\d.]+/interval=[\d.]+-[\d.]+)"
SAMPLERS = {"0": "euler", "1": "repa_heun"}


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("repa_samplers")


@pytest.fixture(scope="module")
def velocity(fixture):
    """The velocity noise - data at REPA's time 1 - t becomes data - noise at t."""
    formula = analytic_model(fixture[1]["model"])
    return lambda x, t, y: -formula(x, 1 - t.view(-1, 1, 1, 1), y.view(-1, 1, 1, 1))


def guided_model(fixture, velocity, case):
    tensors, config = fixture
    scale, interval = (part.split("=")[1] for part in case.split("/"))
    low, high = map(float, interval.split("-"))
    return guide(velocity, tensors["y"], float(scale), config["null_label"], interval=(1 - high, 1 - low))


@for_keys("repa_samplers", rf"ode/heun=(?P<heun>[01])/{CASE}")
def test_ode(fixture, velocity, key, heun, case):
    tensors, config = fixture
    model = guided_model(fixture, velocity, case)
    latents = sample(Flow(), model, tensors["x"].double(), SAMPLERS[heun], config["num_steps"])
    assert relative_error(latents, tensors[key]) < 1e-5


@for_keys("repa_samplers", rf"sde/{CASE}")
def test_euler_maruyama(fixture, velocity, key, case):
    tensors, config = fixture
    model, noise = guided_model(fixture, velocity, case), tensors[f"{key}/noise"].__getitem__
    latents = sample(Flow(), model, tensors["x"].double(), "euler_maruyama", config["num_steps"], noise)
    assert relative_error(latents, tensors[key]) < 1e-5

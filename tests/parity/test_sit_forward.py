"""The SiT backbone against the public implementation."""

import pytest

from dit.backbones import SiT
from dit.samplers import guide
from tests.fixtures import load_fixture, model_weights, relative_error


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("sit_forward")


@pytest.fixture(scope="module")
def model(fixture):
    tensors, config = fixture
    model = SiT(**config["config"]).eval().requires_grad_(False)
    model.load_state_dict(model_weights(tensors))
    return model


def test_forward(fixture, model):
    tensors, _ = fixture
    assert relative_error(model(tensors["x"], tensors["t"], tensors["y"]), tensors["out"]) < 1e-5


def test_guided_forward(fixture, model):
    tensors, config = fixture
    guided = guide(model, tensors["y"], config["cfg_scale"], config["config"]["num_classes"], channels="first3")
    expected = tensors["cfg_out"][: len(tensors["y"])]
    assert relative_error(guided(tensors["x"], tensors["t"]), expected) < 1e-5

"""The DiT backbone against the public implementation: forward, guided forward, forced label drop."""

import pytest
import torch

from dit.backbones import DiT
from dit.samplers import guide
from tests.fixtures import load_fixture, model_weights, relative_error


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("dit_forward")


@pytest.fixture(scope="module")
def model(fixture):
    tensors, config = fixture
    model = DiT(**config["config"]).eval().requires_grad_(False)
    model.load_state_dict(model_weights(tensors))  # strict: the public keys, all of them
    return model


def test_forward(fixture, model):
    tensors, _ = fixture
    assert relative_error(model(tensors["x"], tensors["t"], tensors["y"]), tensors["out"]) < 1e-5


def test_guided_forward(fixture, model):
    """The fixture holds the public batch of two halves; ours returns the first, of which the sampler makes use."""
    tensors, config = fixture
    guided = guide(model, tensors["y"], config["cfg_scale"], config["config"]["num_classes"], channels="first3")
    expected = tensors["cfg_out"][: len(tensors["y"])]
    assert relative_error(guided(tensors["x"], tensors["t"]), expected) < 1e-5
    everywhere = guide(model, tensors["y"], config["cfg_scale"], config["config"]["num_classes"], channels="all")
    assert relative_error(everywhere(tensors["x"], tensors["t"]), expected) > 1e-3


def test_forced_label_drop(fixture, model):
    tensors, config = fixture
    drop = tensors["force_drop"] == 1
    embedded = model.y_embedder(tensors["y"], drop)
    assert relative_error(embedded, tensors["label_embedding_forced"]) < 1e-6
    null = torch.where(drop, config["config"]["num_classes"], tensors["y"])
    dropped = model(tensors["x"], tensors["t"], tensors["y"], drop_labels=drop)
    assert torch.equal(dropped, model(tensors["x"], tensors["t"], null))

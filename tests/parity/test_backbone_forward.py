"""The DiT and SiT backbones against the public implementations: forward, guided forward, forced label drop."""

import pytest
import torch

from dit.backbones import DiT, SiT
from dit.samplers import guide
from tests.fixtures import load_fixture, model_weights, relative_error


def load(name: str, family: type[DiT]) -> tuple[dict[str, torch.Tensor], dict, DiT]:
    """Tensors and configuration of a fixture, and the backbone with its weights."""
    tensors, config = load_fixture(name)
    model = family(**config["config"]).eval().requires_grad_(False)
    model.load_state_dict(model_weights(tensors))  # strict: the public keys, all of them
    return tensors, config, model


both = pytest.mark.parametrize(("name", "family"), [("dit_forward", DiT), ("sit_forward", SiT)])


@both
def test_forward(name, family):
    tensors, _, model = load(name, family)
    assert relative_error(model(tensors["x"], tensors["t"], tensors["y"]), tensors["out"]) < 1e-5


@both
def test_guided_forward(name, family):
    """The fixture holds the public batch of two halves; ours returns the first, of which the sampler makes use."""
    tensors, config, model = load(name, family)
    scale, null = config["cfg_scale"], config["config"]["num_classes"]
    expected = tensors["cfg_out"][: len(tensors["y"])]
    guided = guide(model, tensors["y"], scale, null, channels="first3")
    assert relative_error(guided(tensors["x"], tensors["t"]), expected) < 1e-5
    if config["config"]["in_channels"] > 3:
        everywhere = guide(model, tensors["y"], scale, null, channels="all")
        assert relative_error(everywhere(tensors["x"], tensors["t"]), expected) > 1e-3


def test_forced_label_drop():
    tensors, config, model = load("dit_forward", DiT)
    drop = tensors["force_drop"] == 1
    embedded = model.y_embedder(tensors["y"], drop)
    assert relative_error(embedded, tensors["label_embedding_forced"]) < 1e-6
    null = torch.where(drop, config["config"]["num_classes"], tensors["y"])
    dropped = model(tensors["x"], tensors["t"], tensors["y"], drop_labels=drop)
    assert torch.equal(dropped, model(tensors["x"], tensors["t"], null))

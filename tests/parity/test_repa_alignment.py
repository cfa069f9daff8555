"""REPA's forward pass with projections and its losses: time turned at the border, t = 1 is noise there."""

import pytest
import torch

from dit.alignment import Alignment, Encoder, cosine_alignment, tokens_after
from dit.backbones import SiT
from dit.objectives import Flow
from dit.public.repa import from_public_weights
from tests.fixtures import load_fixture, model_weights, relative_error

BACKBONE = ("input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "num_classes")


def test_forward_with_projections(monkeypatch):
    tensors, note = load_fixture("repa_forward")
    config = note["config"]
    backbone, projector = from_public_weights(model_weights(tensors))
    model = SiT(**{key: config[key] for key in BACKBONE}, learn_sigma=False).eval()
    model.load_state_dict(backbone)
    alignment = Alignment(Encoder("efficientnet_lite0"), config["encoder_depth"], 0.5, config["projector_dim"])
    monkeypatch.setattr(Encoder, "width", config["z_dims"][0])
    head = alignment.create_projector(model, seed=0)
    head.load_state_dict(projector)
    with torch.no_grad(), tokens_after(model, [alignment.depth]) as tokens:
        velocity = model(tensors["x"], 1 - tensors["t"], tensors["y"])
        projected = head(tokens[alignment.depth])
    assert relative_error(-velocity, tensors["out"]) < 1e-5
    assert relative_error(projected, tensors["z0"]) < 1e-5


@pytest.mark.parametrize(("name", "path"), [("linear", "linear"), ("cosine", "gvp")])
def test_loss(name, path):
    tensors, _ = load_fixture("repa_loss")
    flow, t = Flow(path=path), 1 - tensors["t"]
    noise, data = tensors["noise"], tensors["x"]
    assert relative_error(flow.interpolate(noise, data, t)[0], tensors[f"{name}/model_input"]) < 1e-5
    loss = flow.training_terms(-tensors["model_output"], noise, data, t)["loss"]
    assert relative_error(loss, tensors[f"{name}/denoising_loss"]) < 1e-5
    cosine = cosine_alignment(tensors["projected0"], tensors["target0"]).mean()
    assert relative_error(-cosine[None], tensors[f"{name}/projection_loss"]) < 1e-5
    half = cosine_alignment(tensors["projected0"].half() * 1e-4, tensors["target0"]).mean()  # no underflow to NaN
    assert half.isfinite()

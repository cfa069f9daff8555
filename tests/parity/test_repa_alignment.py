"""REPA's forward pass with projections and its losses: time turned at the border, t = 1 is noise there."""

import torch

from dit.alignment import Alignment, Encoder, cosine_alignment, tokens_after
from dit.backbones import SiT
from dit.objectives import Flow
from dit.public.repa import from_public_weights
from tests.fixtures import for_keys, load_fixture, model_weights, relative_error

PATHS = {"linear": "linear", "cosine": "gvp"}
BACKBONE = ("input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "num_classes")


def test_forward_with_projections(monkeypatch):
    tensors, note = load_fixture("repa_forward")
    config = note["config"]
    backbone, projectors = from_public_weights(model_weights(tensors))
    assert len(projectors) == len(config["z_dims"])
    model = SiT(**{key: config[key] for key in BACKBONE}, learn_sigma=False).eval()
    model.load_state_dict(backbone)
    alignment = Alignment(Encoder("efficientnet_lite0"), config["encoder_depth"], 0.5, config["projector_dim"])
    with torch.no_grad(), tokens_after(model, [alignment.depth]) as tokens:
        velocity = model(tensors["x"], 1 - tensors["t"], tensors["y"])
    assert relative_error(-velocity, tensors["out"]) < 1e-5
    for number, (width, projector) in enumerate(zip(config["z_dims"], projectors)):
        monkeypatch.setattr(Encoder, "width", width)
        head = alignment.create_projector(model, seed=0)
        head.load_state_dict(projector)
        with torch.no_grad():
            projected = head(tokens[alignment.depth])
        assert relative_error(projected, tensors[f"z{number}"]) < 1e-5


@for_keys("repa_loss", r"(?P<name>\w+)/denoising_loss")
def test_denoising_loss(key, name):
    tensors, _ = load_fixture("repa_loss")
    flow, t = Flow(path=PATHS[name]), 1 - tensors["t"]
    noise, data = tensors["noise"], tensors["x"]
    assert relative_error(flow.interpolate(noise, data, t)[0], tensors[f"{name}/model_input"]) < 1e-5
    loss = flow.training_terms(-tensors["model_output"], noise, data, t)["loss"]
    assert relative_error(loss, tensors[key]) < 1e-5


@for_keys("repa_loss", r"(?P<name>\w+)/projection_loss")
def test_alignment_loss(key, name):
    """The mean over encoders, images and tokens."""
    tensors, _ = load_fixture("repa_loss")
    count = sum(name.startswith("target") for name in tensors)
    pairs = [(tensors[f"projected{number}"], tensors[f"target{number}"]) for number in range(count)]
    cosine = torch.stack([cosine_alignment(projected, target).mean() for projected, target in pairs]).mean()
    assert relative_error(-cosine[None], tensors[key]) < 1e-5
    half = cosine_alignment(pairs[0][0].half() * 1e-4, pairs[0][1]).mean()  # no underflow to NaN
    assert half.isfinite()

"""Checkpoints in the layout of the public DiT and SiT load and sample; others are refused in one line."""

import argparse
import json
import re
import sys

import numpy as np
import pytest
import torch

from dit.backbones import DiT, HaltonMaskGIT, MaskGIT, SiT, create_token_backbone
from dit.checkpoints import load_generator
from dit.exchange import export_diffusers
from dit.generation import SamplingSettings, generate_latents
from dit.objectives import Diffusion, Flow
from dit.public.maskgit import RENAMED, public_maskgit_family, read_public_maskgit
from dit.sampling import open_generator
from eqvae.autoencoders import load_autoencoder
from tests.dit.tiny import randomize, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from twostage.cli import sample

PUBLISHED_WIDTH = {"input_size": 8, "hidden_size": 384, "depth": 2, "num_heads": 6, "num_classes": 3}


@pytest.mark.parametrize(("family", "objective"), [("DiT", Diffusion), ("SiT", Flow)])
@pytest.mark.parametrize("wrapper", [None, "ema", "model"])
def test_sizes_come_from_shapes(tmp_path, family, objective, wrapper):
    model = randomize({"DiT": DiT, "SiT": SiT}[family](**PUBLISHED_WIDTH))
    weights = model.state_dict()
    contents = {wrapper: weights, "args": argparse.Namespace(model="tiny"), "opt": {}} if wrapper else weights
    torch.save(contents, tmp_path / "public.pt")
    generator = load_generator(tmp_path / "public.pt", family)
    assert generator.backbone.config == model.config
    assert isinstance(generator.objective, objective)
    assert generator.spec.shape == (4, 8, 8)
    assert generator.spec.normalization.scale == (0.18215,)
    x, t, y = torch.randn(2, 4, 8, 8), torch.tensor([1.0, 0.0]), torch.tensor([0, 3])
    assert torch.equal(generator.backbone(x, t, y), model(x, t, y))
    settings = SamplingSettings("ddim" if family == "DiT" else "euler", num_inference_steps=2)
    latents = generate_latents(generator, torch.arange(2), y, settings)
    assert latents.isfinite().all()


def test_averaged_weights_come_first(tmp_path):
    averaged, raw = (randomize(DiT(**PUBLISHED_WIDTH), seed).state_dict() for seed in (0, 1))
    torch.save({"model": raw, "ema": averaged}, tmp_path / "public.pt")
    loaded = load_generator(tmp_path / "public.pt", "DiT").backbone.state_dict()
    assert torch.equal(loaded["blocks.0.attn.qkv.weight"], averaged["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("family", ["DiT", "SiT"])
def test_names_of_several_devices_or_of_a_compiled_network(tmp_path, prefix, family):
    weights = tiny_generator({"DiT": DiT, "SiT": SiT}[family]).backbone.state_dict()
    torch.save({"ema": {prefix + name: value for name, value in weights.items()}}, tmp_path / "public.pt")
    found = load_generator(tmp_path / "public.pt", family, num_heads=2).backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


ARGUMENTS = [
    ({}, Flow()),
    ({"path_type": "Linear", "prediction": "velocity", "loss_weight": None}, Flow()),
    ({"path_type": "GVP", "prediction": "noise", "loss_weight": "velocity"}, Flow("gvp", "noise", "velocity")),
    ({"path_type": "VP", "prediction": "score"}, Flow("vp", "score")),
    ({"path_type": "linear", "prediction": "v", "weighting": "lognormal"}, Flow()),
    ({"path_type": "cosine", "prediction": "v"}, Flow("gvp")),
]


@pytest.mark.parametrize(("arguments", "expected"), ARGUMENTS)
def test_arguments_of_a_training_tell_its_path_and_what_it_predicts(tmp_path, arguments, expected):
    weights = tiny_generator(SiT).backbone.state_dict()
    torch.save({"ema": weights, "args": argparse.Namespace(**arguments)}, tmp_path / "public.pt")
    assert load_generator(tmp_path / "public.pt", "SiT", num_heads=2).objective.config == expected.config
    torch.save({"ema": weights, "args": argparse.Namespace(path_type="spiral")}, tmp_path / "public.pt")
    with pytest.raises(ValueError, match=r"public\.pt: flow path 'spiral' is unknown"):
        load_generator(tmp_path / "public.pt", "SiT", num_heads=2)


def test_the_family_of_repa_s_files_may_be_told(tmp_path):
    weights = tiny_generator(SiT).backbone.state_dict() | {"projectors.0.0.weight": torch.ones(3, 16)}
    torch.save(weights, tmp_path / "repa.pt")
    told, untold = (load_generator(tmp_path / "repa.pt", family, 2).backbone.state_dict() for family in ("SiT", None))
    assert all(torch.equal(told[name], value) for name, value in untold.items())
    assert torch.equal(told["final_layer.linear.weight"], -weights["final_layer.linear.weight"])


def test_latents_of_other_channels_are_those_of_the_given_autoencoder(tmp_path):
    """Stable Diffusion's have 4 channels: its scale and its 1/8 of the image say nothing of SD3's or kl-f16's."""
    model = randomize(DiT(input_size=4, in_channels=3, hidden_size=16, depth=1, num_heads=2, num_classes=3))
    torch.save(model.state_dict(), tmp_path / "public.pt")
    config = {"block_out_channels": [8] * 2, "norm_num_groups": 4, "latent_channels": 3, "scaling_factor": 1.5}
    config |= {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    autoencoder = load_autoencoder(config)
    autoencoder.save_pretrained(tmp_path / "vae")
    opened = open_generator(tmp_path / "public.pt", tmp_path / "vae", family="DiT", num_heads=2)
    assert (opened.generator.spec.downsampling_factor, opened.generator.spec.normalization.scale) == (2, (1.5,))
    generator = load_generator(tmp_path / "public.pt", "DiT", num_heads=2)
    export_diffusers(generator, autoencoder, tmp_path / "pipeline", num_inference_steps=10)
    assert json.loads((tmp_path / "pipeline" / "vae" / "config.json").read_text())["scaling_factor"] == 1.5


@pytest.mark.parametrize(
    ("size", "expected"),
    [({"input_size": 64}, {"depth": 28, "num_heads": 16, "num_classes": 1000}), ({"learn_sigma": False}, {})],
)
def test_published_xl(size, expected, monkeypatch):
    """Without its 675 M numbers: shapes are all that is read."""
    with torch.device("meta"):
        model = DiT(**size)
    monkeypatch.setattr("dit.checkpoints.load_checkpoint", lambda path: model.state_dict())
    config = load_generator("DiT-XL-2.pt", "DiT").backbone.config
    assert config == model.config
    assert config | expected == config


def test_what_is_missing_is_asked_for(tmp_path):
    generator = tiny_generator(DiT)
    torch.save(generator.backbone.state_dict(), tmp_path / "public.pt")
    with pytest.raises(ValueError, match="does not tell DiT from SiT"):
        load_generator(tmp_path / "public.pt")
    with pytest.raises(ValueError, match="width 16, which is none of the published: give num_heads"):
        load_generator(tmp_path / "public.pt", "DiT")
    assert load_generator(tmp_path / "public.pt", "DiT", num_heads=2).backbone.config == generator.backbone.config
    with pytest.raises(ValueError, match=r"public\.pt: ema_decay 0\.9 is of checkpoints of other kinds: leave it out"):
        load_generator(tmp_path / "public.pt", "DiT", num_heads=2, ema_decay=0.9)


def test_other_layouts_are_refused(tmp_path):
    weights = tiny_generator(DiT).backbone.state_dict()
    cases = {
        "unexpected keys down.0.weight, up.1": {"down.0.weight": torch.zeros(1), "up.1": torch.zeros(1)},
        "unexpected keys projectors.0.weight": weights | {"projectors.0.weight": torch.zeros(1)},
        "another shape than DiT's: t_embedder": {key: value for key, value in weights.items() if "t_emb" not in key},
        "no state dict but a list": [1],
    }
    for number, (message, contents) in enumerate(cases.items()):
        torch.save(contents, tmp_path / f"{number}.pt")
        with pytest.raises(ValueError, match=message) as error:
            load_generator(tmp_path / f"{number}.pt", "DiT", num_heads=2)
        assert "\n" not in str(error.value)
        assert f"{number}.pt" in str(error.value)


def test_the_command_samples_a_public_checkpoint(tmp_path, monkeypatch):
    generator = tiny_generator(DiT)
    torch.save(generator.backbone.state_dict(), tmp_path / "public.pt")
    tiny_autoencoder(factor=8).save_pretrained(tmp_path / "autoencoder")
    words = ["sample.py", "--checkpoint", str(tmp_path / "public.pt"), "--family", "DiT", "--num-heads", "2"]
    words += ["--autoencoder", str(tmp_path / "autoencoder"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*words, "--num-images", "2", "--num-inference-steps", "3", "--npz"])
    sample.main()
    with np.load(tmp_path / "out/samples.npz") as arrays:
        assert arrays["arr_0"].shape == (2, 32, 32, 3)


def public_layout(model):
    """Weights of a MaskGIT under the public names, by the table that reads them."""
    public = {}
    for name, value in model.state_dict().items():
        for beginning, ours in RENAMED[type(model)]:
            if found := re.match(re.escape(ours).replace(r"\{\}", r"(\d+)"), name):
                public[beginning.format(*found.groups()) + name[found.end() :]] = value
    return public


SMALLEST = {"input_size": 3, "num_codes": 7, "hidden_size": 8, "depth": 11, "num_heads": 2, "num_classes": 4}


@pytest.mark.parametrize("family", [MaskGIT, HaltonMaskGIT])
@pytest.mark.parametrize("wrapper", [None, "ema"])
def test_maskgit_sizes_come_from_shapes(family, wrapper):
    model = randomize(family(**SMALLEST))
    weights = public_layout(model)
    assert public_maskgit_family(weights) is family
    found = read_public_maskgit({wrapper: weights} if wrapper else weights, "x.pt", num_classes=4, num_heads=2)
    assert SMALLEST.items() <= found.config.items()
    inputs = (torch.arange(18).view(2, 3, 3) % 8 - 1, torch.zeros(2), torch.tensor([0, 4]))
    assert torch.equal(found(*inputs), model(*inputs))


@pytest.mark.parametrize("name", ["MaskGIT-v1", "MaskGIT-v2-tiny", "MaskGIT-v2-base"])
def test_published_maskgit_sizes_need_no_option(name, monkeypatch):
    """Without their numbers: shapes are all that is read."""
    with torch.device("meta"):
        model = create_token_backbone(name, num_codes=1024)
    monkeypatch.setattr(torch, "equal", lambda *_: True)  # meta tensors have nothing to compare
    assert read_public_maskgit(public_layout(model), "x.pt").config == model.config


def test_other_maskgit_layouts_are_refused_in_one_line():
    first, second = public_layout(randomize(MaskGIT(**SMALLEST))), public_layout(randomize(HaltonMaskGIT(**SMALLEST)))
    head = {"head.weight": second["head.weight"] + 1}
    cases = (
        ("no MaskGIT: tok_emb.weight, and", {"encoder.weight": torch.zeros(1)}),
        ("unexpected keys quant.weight", first | {"quant.weight": torch.zeros(1)}),
        ("head.weight is not tok_emb.weight", second | head),
        ("missing or of another shape than HaltonMaskGIT's: bias", second | {"head.bias": torch.zeros(3)}),
        ("not the shapes of MaskGIT", {"tok_emb.weight": torch.zeros(3, 4), "pos_emb": torch.zeros(1, 5, 4)}),
    )
    for message, weights in cases:
        with pytest.raises(ValueError, match=message) as error:
            read_public_maskgit(weights, "x.pt", 4, 2)
        assert "\n" not in str(error.value)
        assert "x.pt" in str(error.value)
    with pytest.raises(ValueError, match=r"x.pt has width 8, which is none of the published: give num_heads"):
        read_public_maskgit(first, "x.pt", 4)

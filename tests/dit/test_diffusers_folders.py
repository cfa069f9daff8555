"""Folders of diffusers as checkpoints: the network is diffusers' own, and what is not DiT's is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

from dit.backbones import DiT
from dit.checkpoints import load_generator
from dit.exchange import export_diffusers
from dit.generation import SamplingSettings, generate_latents
from dit.samplers import image_noise
from eqvae.autoencoders import load_autoencoder
from tests.dit.tiny import tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from twostage.cli import sample

CLASSES, STEPS = 5, 3
SIZES = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2, "sample_size": 4}


@torch.no_grad()
def transformer(**changes) -> DiTTransformer2DModel:
    """Small random weights; all blocks have one time and label embedding, as in published folders."""
    generator = torch.Generator().manual_seed(0)
    model = DiTTransformer2DModel(**SIZES | {"out_channels": 8, "num_embeds_ada_norm": CLASSES} | changes).eval()
    for name, parameter in model.named_parameters():
        first = name.replace("blocks.1.norm1.emb", "blocks.0.norm1.emb")
        shared = dict(model.named_parameters())[first] if first != name else None
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator) if shared is None else shared)
    return model


def pipeline(**schedule) -> DiTPipeline:
    """With an autoencoder of its own, at 1/4, and a scheduler."""
    autoencoder = tiny_autoencoder().model
    autoencoder.register_to_config(scaling_factor=0.5)
    scheduler = DDIMScheduler(**{"beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False} | schedule)
    return DiTPipeline(transformer(num_embeds_ada_norm=1000), autoencoder, scheduler)


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"out_channels": None, "norm_eps": 1e-6}, {"patch_size": 1}])
@pytest.mark.parametrize("name", ["DiTTransformer2DModel", "Transformer2DModel"])
def test_outputs_are_those_of_diffusers(tmp_path, changes, name):
    model = transformer(**changes)
    model.save_pretrained(tmp_path)
    edit(tmp_path / "config.json", _class_name=name)
    generator = load_generator(tmp_path)
    x, t, y = torch.randn(3, 4, 4, 4), torch.tensor([0, 517, 999]), torch.tensor([0, 3, CLASSES])
    expected = model(x, timestep=t, class_labels=y).sample
    assert expected.std() > 0.05
    torch.testing.assert_close(generator.backbone(x, t, y), expected, rtol=1e-5, atol=1e-5)
    assert generator.num_classes == CLASSES
    assert (generator.autoencoder_source, generator.spec.normalization.scale) == (None, (0.18215,))


def test_a_pipeline_brings_its_autoencoder_and_schedule(tmp_path, monkeypatch):
    made = pipeline(num_train_timesteps=500, beta_start=2e-4, beta_end=0.04)
    made.save_pretrained(tmp_path)
    generator, labels = load_generator(tmp_path), torch.tensor([1, 7])
    assert generator.objective.num_timesteps == 500
    assert (generator.autoencoder_source, generator.spec.normalization.scale) == (str(tmp_path / "vae"), (0.5,))
    assert generator.spec.downsampling_factor == 4
    noise = image_noise(torch.arange(2), (4, 4, 4), seed=0)
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda **_: noise)
    made.set_progress_bar_config(disable=True)
    theirs = made(labels.tolist(), guidance_scale=1.0, num_inference_steps=10, output_type="np").images
    settings = SamplingSettings("ddim", 10, options={"timestep_spacing": "leading"})
    latents = generate_latents(generator, torch.arange(2), labels, settings)
    decoded = autoencoder_of(generator).decode(generator.spec.normalization.denormalize(latents))
    ours = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-4, atol=1e-4)  # its schedule is float32


def test_the_command_samples_and_another_export_is_the_same(tmp_path, monkeypatch):
    pipeline().save_pretrained(tmp_path / "in")
    words = ["sample.py", "--checkpoint", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*words, "--num-images", "2", "--num-inference-steps", str(STEPS), "--npz"])
    sample.main()
    with np.load(tmp_path / "out/samples.npz") as arrays:
        assert arrays["arr_0"].shape == (2, 16, 16, 3)
    generator = load_generator(tmp_path / "in")
    export_diffusers(generator, autoencoder_of(generator), tmp_path / "again", num_inference_steps=250)
    weights = [DiTTransformer2DModel.from_pretrained(tmp_path / name / "transformer") for name in ("in", "again")]
    for name, value in weights[0].state_dict().items():
        assert torch.equal(value, weights[1].state_dict()[name]), name


def autoencoder_of(generator):
    return load_autoencoder(generator.autoencoder_source).freeze()


def edit(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_what_is_not_dits_is_refused_in_one_line(tmp_path):
    cases = (
        ("holds a UNet2DModel", {"_class_name": "UNet2DModel"}),
        ("activation_fn is gelu, not gelu-approximate as DiT's", {"activation_fn": "gelu"}),
        (r"lacks transformer_blocks\.2\.", {"num_layers": 3}),
        (r"has more than its config says: transformer_blocks\.1\.", {"num_layers": 1}),
        ("sample_size is None, not a whole number", {"sample_size": None}),
    )
    for number, (message, entries) in enumerate(cases):
        folder = tmp_path / str(number)
        transformer().save_pretrained(folder)
        edit(folder / "config.json", **entries)
        refused(folder, message)
    (tmp_path / "0/config.json").write_text("{")
    refused(tmp_path / "0", "config.json cannot be read: give a whole folder")
    apart = transformer()
    with torch.no_grad():
        apart.get_parameter("transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight").add_(1)
    apart.save_pretrained(tmp_path / "apart")
    refused(tmp_path / "apart", "block 1 has another y_embedder.embedding_table.weight than the first one")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"prediction_type": "v_prediction"}, "prediction_type of its scheduler is v_prediction"),
        ({"beta_schedule": "scaled_linear"}, "beta_schedule of its scheduler is scaled_linear"),
        ({"beta_end": 0.012}, "beta_end of its scheduler is 0.012"),
        ({"trained_betas": [0.1] * 1000}, "trained_betas of its scheduler is given"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr of its scheduler is True"),
    ],
)
def test_other_schedules_are_refused(tmp_path, entries, message):
    pipeline(**entries).save_pretrained(tmp_path)
    refused(tmp_path, message)


def test_an_export_for_some_steps_alone_is_refused(tmp_path):
    autoencoder = tiny_autoencoder()
    export_diffusers(tiny_generator(DiT, autoencoder), autoencoder, tmp_path / "folder", num_inference_steps=10)
    refused(tmp_path / "folder", "was exported for 10 steps, and knows no other times")
    refused(tmp_path / "folder" / "transformer", "was exported for 10 steps, and knows no other times")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_generator(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@torch.no_grad()
def test_an_export_knows_the_labels_of_its_training_alone(tmp_path):
    """The pipeline's table has 1000 rows, those of other labels zero: none is drawn from them."""
    autoencoder = tiny_autoencoder()
    generator = tiny_generator(DiT, autoencoder, frequency_divisor=127)
    export_diffusers(generator, autoencoder, tmp_path / "folder", num_inference_steps=50)
    found = load_generator(tmp_path / "folder")
    assert found.num_classes == generator.num_classes == 5
    x, t, y = torch.randn(2, 4, 4, 4), torch.tensor([3, 900]), torch.tensor([4, 5])
    torch.testing.assert_close(found.backbone(x, t, y), generator.backbone(x, t, y), rtol=1e-5, atol=1e-5)

"""What the card of an autoencoder says about its latents, against diffusers itself."""

import re

import pytest
import torch
from diffusers import AutoencoderKL

from eqvae.autoencoders import Normalization, load_autoencoder
from eqvae.autoencoders.registry import MODEL_CLASSES
from eqvae.losses import ReconstructionLoss
from eqvae.module import AutoencoderModule
from eqvae.provenance import describe_recipe
from tests.families import tiny
from tests.tiny import TINY_AUTOENCODER

PER_CHANNEL = Normalization((0.0, 1.0, 2.0, 3.0), (1.0, 1 / 2, 1 / 3, 1 / 4))
ONE = Normalization((0.5,), (0.25,))
EXACTLY = "(z - shift) * scale, per channel, of normalization.json"


def row(folder, name):
    """The value of a row of the card; None where it has none."""
    found = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", (folder / "README.md").read_text(), re.M)
    return found and found[1].strip("`")


@pytest.mark.parametrize(
    ("family", "normalization", "formula"),
    [
        ("AutoencoderKL", PER_CHANNEL, "(z - latents_mean) * scaling_factor / latents_std"),
        ("AutoencoderKL", ONE, "(z - shift_factor) * scaling_factor"),
        ("VQModel", PER_CHANNEL, EXACTLY),
        ("VQModel", ONE, EXACTLY),
        ("VQModel", Normalization((0.0,), (0.25,)), "z * scaling_factor"),
        ("AutoencoderTiny", PER_CHANNEL, EXACTLY),
        ("AutoencoderDC", PER_CHANNEL, EXACTLY),
        ("AutoencoderKLFlux2", PER_CHANNEL, EXACTLY),
    ],
)
def test_the_formula_is_exact_or_the_record_is_named(family, normalization, formula, tmp_path):
    autoencoder = tiny(family)
    channels = autoencoder.latent_channels
    spread = channels // len(normalization.scale) if len(normalization.scale) > 1 else 1
    autoencoder.normalization = Normalization(normalization.shift * spread, normalization.scale * spread)
    autoencoder.save_pretrained(tmp_path / "out")
    assert row(tmp_path / "out", "normalized latents") == formula


def test_the_usage_gives_our_latents_where_diffusers_pads_otherwise(tmp_path):
    autoencoder = load_autoencoder(TINY_AUTOENCODER, padding_mode="reflect").freeze()
    autoencoder.normalization = ONE
    autoencoder.save_pretrained(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    (usage,) = re.findall(r"```python\n(.*?)```", card, re.S)
    names: dict = {}
    exec(usage.replace("OWNER/NAME", str(tmp_path / "out")), names)  # as a reader of the card would
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        theirs = names["autoencoder"].encode(images).latent_dist.mean
        torch.testing.assert_close(theirs, autoencoder.encode(images).mean)
        bare = AutoencoderKL.from_pretrained(tmp_path / "out").encode(images).latent_dist.mean
    assert not torch.allclose(theirs, bare, rtol=0.1)
    assert "reflect" in row(tmp_path / "out", "padding")


def test_no_loss_is_named_that_is_not_computed():
    """The latents of a DC-AE have no spread, and nothing pulls at one."""
    bare = ReconstructionLoss(perceptual="none")
    config = {"_class_name": "AutoencoderDC", **MODEL_CLASSES["AutoencoderDC"].tiny}
    module = AutoencoderModule(config, reconstruction=bare)
    assert not any("divergence" in term for term in describe_recipe(module, None)["loss"])
    drawing = AutoencoderModule(TINY_AUTOENCODER, reconstruction=bare)
    assert any("divergence" in term for term in describe_recipe(drawing, None)["loss"])

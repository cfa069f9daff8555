"""A VQ-GAN in the key layout of taming-transformers, with attention inside its levels, against taming itself."""

import pytest
import torch
from diffusers import VQModel
from safetensors.torch import load_file

from eqvae.autoencoders import CodebookLoss, VQAutoencoder, load_autoencoder
from tests.fixtures import load_fixture, model_weights, relative_error


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("taming_vqgan")


@pytest.fixture
def checkpoint(fixture, tmp_path):
    """As taming's trainer leaves it: the loss and its networks beside the autoencoder."""
    loss = {
        "loss.discriminator.main.0.bias": torch.zeros(64),
        "loss.perceptual_loss.lin0.model.1.weight": torch.ones(1),
    }
    torch.save({"global_step": 1, "state_dict": model_weights(fixture[0]) | loss}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


@torch.no_grad()
def test_codes_and_reconstruction(fixture, checkpoint):
    tensors, config = fixture
    autoencoder = load_autoencoder(checkpoint).freeze()
    assert isinstance(autoencoder, VQAutoencoder)
    assert (autoencoder.num_codes, autoencoder.latent_channels) == (config["n_embed"], config["embed_dim"])
    codes = autoencoder.encode(tensors["x"])
    assert torch.equal(codes.indices, tensors["indices"])
    assert relative_error(codes.features, tensors["pre_quant"]) < 1e-5
    assert relative_error(codes.latents, tensors["quantized"]) < 1e-5
    assert torch.equal(autoencoder.lookup(tensors["indices"]), codes.latents)
    assert relative_error(autoencoder.decode(codes.latents), tensors["reconstruction"]) < 1e-5


@torch.no_grad()
def test_codebook_loss(fixture, checkpoint):
    tensors, config = fixture
    codes = load_autoencoder(checkpoint).encode(tensors["x"])
    loss = CodebookLoss(beta=config["beta"], legacy=config["legacy_beta"])(codes)
    torch.testing.assert_close(loss, tensors["codebook_loss"].reshape(()), rtol=1e-5, atol=0)


def test_round_trip_is_exact(fixture, checkpoint, tmp_path):
    weights = model_weights(fixture[0])
    load_autoencoder(checkpoint).save_pretrained(tmp_path / "folder")
    load_autoencoder(tmp_path / "folder").save_ldm(tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert set(again) == set(weights)
    assert all(torch.equal(again[key], value) for key, value in weights.items())


@torch.no_grad()
def test_diffusers_reconstructs_the_same_from_the_exported_folder(fixture, checkpoint, tmp_path):
    tensors, _ = fixture
    load_autoencoder(checkpoint).save_pretrained(tmp_path / "folder")
    model = VQModel.from_pretrained(tmp_path / "folder").eval()
    assert relative_error(model(tensors["x"]).sample, tensors["reconstruction"]) < 1e-5

"""A KL autoencoder in the key layout of latent-diffusion: the file's model computes what latent-diffusion computes."""

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from eqvae.autoencoders import KLAutoencoder, load_autoencoder
from tests.fixtures import load_fixture, model_weights, relative_error


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("ldm_autoencoder")


def write(weights, path, layout):
    """The same weights as the files that are around: bare, inside a generator, inside a training checkpoint."""
    inside = {f"first_stage_model.{key}": value for key, value in weights.items()}
    generator = inside | {"model.diffusion_model.out.2.weight": torch.zeros(4, 4), "betas": torch.zeros(10)}
    with_loss = weights | {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4)}
    path = path / f"weights.{layout.split('-')[-1]}"
    if layout == "bare-safetensors":
        save_file(weights, path)
    elif layout == "generator-safetensors":
        save_file(generator, path)
    elif layout == "training-ckpt":
        torch.save({"epoch": 3, "global_step": 246803, "state_dict": with_loss}, path)
    elif layout == "generator-ckpt":
        torch.save({"state_dict": generator}, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=layout != "old-pt")
    return path


@pytest.mark.parametrize(
    "layout", ["bare-safetensors", "generator-safetensors", "training-ckpt", "generator-ckpt", "bare-pt", "old-pt"]
)
@torch.no_grad()
def test_moments_and_reconstruction(fixture, layout, tmp_path):
    tensors, _ = fixture
    autoencoder = load_autoencoder(write(model_weights(tensors), tmp_path, layout)).freeze()
    assert isinstance(autoencoder, KLAutoencoder)
    posterior = autoencoder.encode(tensors["x"])
    assert relative_error(torch.cat([posterior.mean, posterior.logvar], 1), tensors["moments"]) < 1e-5
    assert relative_error(autoencoder.decode(posterior.mean), tensors["reconstruction"]) < 1e-5


def test_architecture_is_inferred_as_published(fixture, tmp_path):
    tensors, config = fixture
    published = config["ddconfig"]
    model = load_autoencoder(write(model_weights(tensors), tmp_path, "bare-pt")).model
    assert list(model.config.block_out_channels) == [published["ch"] * mult for mult in published["ch_mult"]]
    assert model.config.layers_per_block == published["num_res_blocks"]
    assert model.config.latent_channels == published["z_channels"]
    assert (model.config.in_channels, model.config.out_channels) == (published["in_channels"], published["out_ch"])


def test_round_trip_is_exact(fixture, tmp_path):
    """LDM -> diffusers folder -> LDM: the same keys, shapes and bits."""
    weights = model_weights(fixture[0])
    autoencoder = load_autoencoder(write(weights, tmp_path, "bare-safetensors"))
    autoencoder.save_pretrained(tmp_path / "folder")
    load_autoencoder(tmp_path / "folder").save_ldm(tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert set(again) == set(weights)
    assert all(torch.equal(again[key], value) for key, value in weights.items())


@torch.no_grad()
def test_diffusers_reconstructs_the_same_from_the_exported_folder(fixture, tmp_path):
    tensors, _ = fixture
    load_autoencoder(write(model_weights(tensors), tmp_path, "bare-pt")).save_pretrained(tmp_path / "folder")
    model = AutoencoderKL.from_pretrained(tmp_path / "folder").eval()
    decoded = model.decode(model.encode(tensors["x"]).latent_dist.mean).sample
    assert relative_error(decoded, tensors["reconstruction"]) < 1e-5

"""VQ autoencoders: codes, gradients, folders that diffusers reads, errors."""

import json

import diffusers
import pytest
import torch

from eqvae.autoencoders import KLAutoencoder, VQAutoencoder, load_autoencoder
from tests.eqvae.tiny import smooth_images

CONFIG = {
    "block_out_channels": [8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
    "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
    "latent_channels": 6,
    "vq_embed_dim": 5,
    "num_vq_embeddings": 16,
    "norm_num_groups": 4,
}


def tiny_vq(seed=0, **overrides) -> VQAutoencoder:
    autoencoder = load_autoencoder(CONFIG | overrides, seed)
    with torch.no_grad():  # codes as far apart as the features, so that several of them are used
        autoencoder.model.quantize.embedding.weight.mul_(16)
    return autoencoder


def test_codes_are_the_nearest_codebook_vectors():
    autoencoder = tiny_vq()
    assert (autoencoder.latent_channels, autoencoder.downsampling_factor, autoencoder.num_codes) == (5, 4, 16)
    images = smooth_images(32)
    codes = autoencoder.encode(images)
    assert codes.indices.shape == (2, 8, 8)
    assert codes.indices.dtype == torch.int64
    assert codes.latents.shape == codes.features.shape == (2, 5, 8, 8)
    torch.testing.assert_close(codes.features, autoencoder.features(images))

    codebook = autoencoder.model.quantize.embedding.weight.double()
    rows = codes.features.permute(0, 2, 3, 1).reshape(-1, 1, 5).double()
    expected = (rows - codebook).square().sum(-1).argmin(-1).view(2, 8, 8)
    assert torch.equal(codes.indices, expected)
    assert len(expected.unique()) > 2, "the case is too easy"
    assert torch.equal(codes.latents.permute(0, 2, 3, 1).double(), codebook[expected])
    assert torch.equal(codes.latents, autoencoder.lookup(codes.indices))


def test_quantizing_in_parts_changes_nothing(monkeypatch):
    autoencoder = tiny_vq()
    features = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = autoencoder.quantize(features).indices
    monkeypatch.setattr("eqvae.autoencoders.vq.ROWS_AT_ONCE", 7)
    assert torch.equal(autoencoder.quantize(features).indices, whole)


def test_codebook_vectors_quantize_to_themselves_in_low_precision():
    autoencoder = tiny_vq()
    indices = torch.arange(16).view(1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(autoencoder.quantize(autoencoder.lookup(indices)).indices, indices)


def test_gradients_reach_codebook_and_encoder_separately():
    autoencoder = tiny_vq()
    codes = autoencoder.encode(smooth_images(16))
    codes.latents.sum().backward(retain_graph=True)
    assert autoencoder.model.quantize.embedding.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in autoencoder.model.encoder.parameters())
    codes.features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in autoencoder.model.encoder.parameters())


@torch.no_grad()
def test_decode_never_quantizes():
    autoencoder = tiny_vq().freeze()
    codes = autoencoder.encode(smooth_images(16))
    assert autoencoder.decode(codes.latents).shape == (2, 3, 16, 16)
    assert not torch.allclose(autoencoder.decode(codes.features), autoencoder.decode(codes.latents))


@torch.no_grad()
def test_diffusers_reads_the_exported_folder(tmp_path):
    autoencoder = tiny_vq().freeze()
    autoencoder.save_pretrained(tmp_path / "vq")
    model = diffusers.VQModel.from_pretrained(tmp_path / "vq").eval()
    images = smooth_images(16)
    codes = autoencoder.encode(images)
    torch.testing.assert_close(model.encode(images).latents, codes.features)
    torch.testing.assert_close(model.decode(codes.features).sample, autoencoder.decode(codes.latents))

    loaded = load_autoencoder(tmp_path / "vq")
    assert isinstance(loaded, VQAutoencoder)
    assert loaded.fingerprint() == autoencoder.fingerprint()
    assert loaded.normalization == autoencoder.normalization
    assert (loaded.normalization.shift, loaded.normalization.scale) == ((0.0,), (1.0,))


def test_kind_follows_the_config():
    named = {"_class_name": "VQModel", "block_out_channels": [8], "norm_num_groups": 4}
    assert isinstance(load_autoencoder(named), VQAutoencoder)
    assert isinstance(load_autoencoder(named | {"_class_name": "AutoencoderKL"}), KLAutoencoder)
    with pytest.raises(ValueError, match=r"unknown keys \['shift_factor'\]: see diffusers\.VQModel"):
        load_autoencoder(named | {"shift_factor": 0.1})


def test_folder_of_another_class(tmp_path):
    tiny_vq().save_pretrained(tmp_path / "vq")
    (tmp_path / "vq" / "normalization.json").unlink()  # a folder of diffusers alone
    path = tmp_path / "vq" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "UNet2DModel"}))
    with pytest.raises(ValueError, match="it is of class 'UNet2DModel', which is no autoencoder here") as error:
        load_autoencoder(tmp_path / "vq")
    assert "\n" not in str(error.value)

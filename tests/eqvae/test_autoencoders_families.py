"""Published families by name: parameter counts, constants, small variants end to end; the padding mode."""

import diffusers
import pytest
import torch
from torch import nn

from eqvae.autoencoders import KLAutoencoder, VQAutoencoder, load_autoencoder
from eqvae.autoencoders.families import FAMILIES, create_model
from eqvae.autoencoders.ldm import infer_architecture, ldm_name
from tests.eqvae.tiny import smooth_images

COUNTS = {"sd": 83_653_863, "sdxl": 83_653_863, "sd3": 83_819_683, "sd-vae-16": 69_610_963, "taming-1024": 72_141_699}
CONSTANTS = {"sd": (0.0, 0.18215), "sdxl": (0.0, 0.13025), "sd3": (0.0609, 1.5305), "sd-vae-16": (0.0, 1.0)}


def narrow(family: str) -> dict:
    """The family's architecture with fewer channels and codes."""
    config = FAMILIES[family]
    overrides = {"family": family, "block_out_channels": [width // 16 for width in config["block_out_channels"]]}
    if "num_vq_embeddings" in config:
        overrides |= {"latent_channels": 8, "vq_embed_dim": 8, "num_vq_embeddings": 16}
    return overrides | {"norm_num_groups": 4}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def test_parameter_counts(family):
    with torch.device("meta"):
        model = create_model({"family": family})
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == COUNTS.get(family, COUNTS["taming-1024"] + (16384 - 1024) * 256)


def test_constants_and_shapes(family):
    autoencoder = load_autoencoder(narrow(family)).freeze()
    factor = 8 if family in ("sd", "sdxl", "sd3") else 16
    shift, scale = CONSTANTS.get(family, (0.0, 1.0))
    assert autoencoder.downsampling_factor == factor
    assert (autoencoder.normalization.shift, autoencoder.normalization.scale) == ((shift,), (scale,))
    images = smooth_images(64)
    encoded = autoencoder.encode(images)
    latents = encoded.latents if isinstance(autoencoder, VQAutoencoder) else encoded.mean
    assert latents.shape == (2, autoencoder.latent_channels, 64 // factor, 64 // factor)
    assert autoencoder.decode(latents).shape == images.shape


@torch.no_grad()
def test_every_layout_of_a_family_is_the_same_autoencoder(family, tmp_path):
    autoencoder = load_autoencoder(narrow(family)).freeze()
    autoencoder.save_pretrained(tmp_path / "folder")
    autoencoder.save_ldm(tmp_path / "ldm.safetensors")
    config = narrow(family) | {"scaling_factor": autoencoder.model.config.scaling_factor}
    sources = {
        "folder": load_autoencoder(tmp_path / "folder"),
        "ldm": load_autoencoder(tmp_path / "ldm.safetensors"),
        "diffusers": load_autoencoder(tmp_path / "folder/diffusion_pytorch_model.safetensors", config=config),
    }
    for name, loaded in sources.items():
        assert loaded.fingerprint() == autoencoder.fingerprint(), name
        assert loaded.normalization == autoencoder.normalization, name
    model_class = diffusers.VQModel if isinstance(autoencoder, VQAutoencoder) else diffusers.AutoencoderKL
    assert model_class.from_pretrained(tmp_path / "folder").config.scaling_factor == config["scaling_factor"]


def test_shapes_tell_the_architecture(family):
    with torch.device("meta"):
        model = create_model({"family": family})
    names = [ldm_name(name, len(model.config.block_out_channels)) for name in model.state_dict()]
    assert len(set(names)) == len(names), "two weights of one name"
    assert not any("_blocks" in name or "resnets" in name or "to_" in name for name in names)
    inferred = infer_architecture(dict(zip(names, model.state_dict().values(), strict=True)))
    constants = ("scaling_factor", "shift_factor", "sample_size")
    expected = {key: value for key, value in FAMILIES[family].items() if key not in constants}
    assert {key: inferred[key] for key in expected} == expected


def test_unknown_family_or_impossible_config():
    with pytest.raises(ValueError, match="family 'sd2' is unknown: use one of sd, sdxl"):
        load_autoencoder({"family": "sd2"})
    with pytest.raises(ValueError, match="autoencoder config is impossible"):
        load_autoencoder({"family": "sd", "norm_num_groups": 7, "block_out_channels": [8, 8, 8, 8]})


@torch.no_grad()
def test_padding_mode_is_applied_and_kept(tmp_path):
    config = narrow("sdxl")
    zeros, reflect = load_autoencoder(config), load_autoencoder(config | {"padding_mode": "reflect"})
    assert (zeros.padding_mode, reflect.padding_mode) == ("zeros", "reflect")
    for module in reflect.modules():
        if isinstance(module, nn.Conv2d):
            assert module.padding_mode == ("reflect" if any(module.padding) else "zeros")
    images = smooth_images(32)
    expected = reflect.encode(images).mean
    assert not torch.allclose(zeros.encode(images).mean, expected)
    assert zeros.fingerprint() != reflect.fingerprint()
    assert "padding_mode" not in zeros.model.config

    reflect.save_pretrained(tmp_path / "folder")
    reflect.save_ldm(tmp_path / "ldm.safetensors")
    for source in (tmp_path / "folder", tmp_path / "ldm.safetensors"):
        loaded = load_autoencoder(source)
        assert loaded.padding_mode == "reflect"
        torch.testing.assert_close(loaded.encode(images).mean, expected)
        assert loaded.fingerprint() == reflect.fingerprint()
    plain = diffusers.AutoencoderKL.from_pretrained(tmp_path / "folder").eval()
    torch.testing.assert_close(plain.encode(images).latent_dist.mean, zeros.encode(images).mean)


def test_padding_mode_of_a_loaded_autoencoder(tmp_path):
    load_autoencoder(narrow("sdxl")).save_pretrained(tmp_path / "folder")
    loaded = load_autoencoder({"source": str(tmp_path / "folder"), "padding_mode": "reflect"})
    assert isinstance(loaded, KLAutoencoder)
    assert loaded.padding_mode == "reflect"
    loaded.save_pretrained(tmp_path / "reflect")
    back = load_autoencoder(tmp_path / "reflect", padding_mode="zeros")
    assert back.fingerprint() == load_autoencoder(tmp_path / "folder").fingerprint()
    with pytest.raises(ValueError, match="padding_mode 'mirror' is unknown"):
        load_autoencoder(tmp_path / "folder", padding_mode="mirror")


@torch.no_grad()
def test_a_quarter_turn_commutes_with_the_decoder_but_not_with_the_encoder():
    """With symmetrized kernels only the encoder's one-sided padding is left to break the symmetry."""
    autoencoder = load_autoencoder(narrow("sd") | {"in_channels": 3}).freeze()
    for module in autoencoder.modules():
        if isinstance(module, nn.Conv2d):
            turns = [torch.rot90(module.weight, quarter, (2, 3)) for quarter in range(4)]
            module.weight.copy_(sum(turns) / 4)
    images = smooth_images(32)
    latents = autoencoder.encode(images).mean
    turned = torch.rot90(images, 1, (2, 3))
    encoder_error = (autoencoder.encode(turned).mean - torch.rot90(latents, 1, (2, 3))).abs().max()
    decoded = autoencoder.decode(torch.rot90(latents, 1, (2, 3)))
    decoder_error = (decoded - torch.rot90(autoencoder.decode(latents), 1, (2, 3))).abs().max()
    assert decoder_error < 1e-5
    assert encoder_error > 100 * decoder_error

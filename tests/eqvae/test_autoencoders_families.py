"""Published families by name: parameter counts, constants, small variants end to end; the padding mode."""

import json
import sys

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import nn

from eqvae.autoencoders import KLAutoencoder, Normalization, VQAutoencoder, load_autoencoder
from eqvae.autoencoders.configs import OWN_LEVELS
from eqvae.autoencoders.families import FAMILIES, create_model, expand_family
from eqvae.autoencoders.ldm import infer_architecture, ldm_name
from tests.eqvae.tiny import smooth_images
from twostage.cli import evaluate
from twostage.commands.evaluate.autoencoders import file_configs

COUNTS = {"sd": 83_653_863, "sdxl": 83_653_863, "sd3": 83_819_683, "flux1": 83_819_683, "sd-vae-16": 69_610_963}
COUNTS |= {"taming-1024": 72_141_699}
CONSTANTS = {"sd": (0.0, 0.18215), "sdxl": (0.0, 0.13025), "sd3": (0.0609, 1.5305), "flux1": (0.1159, 0.3611)}
OWN_LAYOUT = {name: config for name, config in FAMILIES.items() if config["_class_name"] in OWN_LEVELS}
"""Those whose files latent-diffusion and taming write; for the others see test_families.py."""
ALIKE = {"sd": "sdxl", "sdxl": "sd", "sd3": "flux1", "flux1": "sd3"}


def narrow(family: str) -> dict:
    """The family's architecture with fewer channels and codes."""
    config = FAMILIES[family]
    overrides = {"family": family, "block_out_channels": [width // 16 for width in config["block_out_channels"]]}
    if "num_vq_embeddings" in config:
        overrides |= {"latent_channels": 8, "vq_embed_dim": 8, "num_vq_embeddings": config["num_vq_embeddings"] // 64}
    return overrides | {"norm_num_groups": 4}


@pytest.fixture(params=OWN_LAYOUT)
def family(request):
    return request.param


def test_parameter_counts(family):
    with torch.device("meta"):
        model = create_model({"family": family})
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == COUNTS.get(family, COUNTS["taming-1024"] + (16384 - 1024) * 256)


def test_constants_and_shapes(family):
    autoencoder = load_autoencoder(narrow(family)).freeze()
    factor = 8 if family in ALIKE else 16
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


@pytest.fixture
def narrow_families(monkeypatch):
    """Families of few channels under the published names, so that whole files of them are small."""
    for name, config in OWN_LAYOUT.items():
        small = expand_family(narrow(name)) | {"block_out_channels": [32] * len(config["block_out_channels"])}
        del small["norm_num_groups"]  # 32, the published number
        monkeypatch.setitem(FAMILIES, name, small)


@pytest.mark.parametrize("layout", ["ldm", "diffusers", "generator"])
def test_a_file_that_several_families_fit_is_never_guessed(family, layout, narrow_families, tmp_path):
    """SDXL's weights got SD's constant, and FLUX.1's those of SD3."""
    autoencoder = load_autoencoder({"family": family})
    path = tmp_path / "vae.safetensors"
    autoencoder.save_ldm(path)
    weights = autoencoder.model.state_dict() if layout == "diffusers" else load_file(path)
    prefix = "first_stage_model." if layout == "generator" else ""
    save_file({prefix + key: value for key, value in weights.items()}, path)  # without our metadata
    if family in ALIKE:
        names = rf"it may be .*{family} \(scale .*{ALIKE[family]} \(scale|it may be .*{ALIKE[family]} .* {family} "
        with pytest.raises(ValueError, match=names) as error:
            load_autoencoder(path)
        assert str(path) in str(error.value)
        assert "--family" in str(error.value)
        assert "\n" not in str(error.value)
    else:
        assert load_autoencoder(path).has_normalization == (family != "sd-vae-16"), "of kl-f16 none was published"
    loaded = load_autoencoder({"source": str(path), "config": {"family": family}})
    if family != "sd-vae-16":
        assert loaded.normalization == autoencoder.normalization
        assert loaded.model.config.scaling_factor == autoencoder.model.config.scaling_factor
    assert loaded.fingerprint() == autoencoder.fingerprint()


def test_an_unknown_normalization_stays_unknown_until_it_is_estimated(narrow_families, tmp_path):
    """Through every form of export; diffusers reads the folder, and its pipelines find no factor to guess with."""
    path = tmp_path / "kl-f16.ckpt"
    torch.save({"state_dict": load_autoencoder({"family": "sd-vae-16"}).model.state_dict()}, path)
    unknown = load_autoencoder(path)
    unknown.save_pretrained(tmp_path / "folder")
    unknown.save_ldm(tmp_path / "again.safetensors")
    for place in (path, tmp_path / "folder", tmp_path / "again.safetensors"):
        assert not load_autoencoder(place).has_normalization, place
        with pytest.raises(ValueError, match=r"no known normalization: train\.py predict estimates it"):
            _ = load_autoencoder(place).normalization
    model = AutoencoderKL.from_pretrained(tmp_path / "folder")
    assert model.config.scaling_factor is None
    assert "unknown: not estimated yet" in (tmp_path / "folder/README.md").read_text()
    loaded = load_autoencoder(tmp_path / "folder")
    loaded.normalization = Normalization((0.5,), (2.0,))
    loaded.save_pretrained(tmp_path / "folder")
    assert load_autoencoder(tmp_path / "folder").normalization == Normalization((0.5,), (2.0,))
    assert AutoencoderKL.from_pretrained(tmp_path / "folder").config.scaling_factor == 2.0


def test_a_scaling_factor_tells_the_family_or_that_it_is_another(narrow_families, tmp_path):
    path = tmp_path / "vae.pt"
    torch.save(load_autoencoder({"family": "sd3"}).model.state_dict(), path)
    told = load_autoencoder(path, config={"scaling_factor": 0.3611}).normalization
    assert (told.shift, told.scale) == ((0.1159,), (0.3611,)), "the shift comes with the scale"
    own = load_autoencoder(path, config={"scaling_factor": 0.5, "shift_factor": 0.25}).normalization
    assert (own.shift, own.scale) == ((0.25,), (0.5,))


def test_a_family_that_the_weights_are_not_of_is_refused(narrow_families, tmp_path):
    path = tmp_path / "vae.pt"
    torch.save(load_autoencoder({"family": "sd"}).model.state_dict(), path)
    with pytest.raises(ValueError, match=r"has latent_channels 4, its config or family says 16: give another"):
        load_autoencoder(path, config={"family": "sd3"})


@pytest.mark.parametrize(
    ("names", "families", "expected"),
    [
        (["a", "folder"], [], {}),
        (["a", "folder"], ["sdxl"], {"a": "sdxl"}),
        (["a", "b"], ["sdxl"], {"a": "sdxl", "b": "sdxl"}),
        (["a", "b"], ["sd", "sdxl"], {"a": "sd", "b": "sdxl"}),
        (["folder"], ["sd"], None),
        (["a", "b"], ["sd"] * 3, None),
    ],
)
def test_evaluate_gives_each_file_its_family(names, families, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    if expected is None:
        with pytest.raises(ValueError, match="--family was given"):
            file_configs(names, families)
    else:
        expected = {name: {"family": family} for name, family in expected.items()}
        assert file_configs(names, families) == expected


def test_evaluate_says_how_to_tell_the_family(narrow_families, tmp_path, monkeypatch, capsys):
    torch.save(load_autoencoder({"family": "sdxl"}).model.state_dict(), tmp_path / "vae.pt")
    options = [f"--autoencoder={tmp_path / 'vae.pt'}", "--data=shapes:4", "--device=cpu", "--predictors=none"]
    command = ["evaluate.py", "latents", *options]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    assert stop.value.code
    assert "as --family" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*command, "--family=sdxl", f"--output={tmp_path / 'result.json'}"])
    evaluate.main()
    assert json.loads((tmp_path / "result.json").read_text())["normalization_scale"] == [0.13025]


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

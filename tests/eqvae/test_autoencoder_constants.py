"""Constants of an exported config: what diffusers' pipelines make of them is our normalization."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, VQModel

from eqvae.autoencoders import Normalization, load_autoencoder
from eqvae.autoencoders.constants import from_constants, to_constants
from eqvae.autoencoders.registry import MODEL_CLASSES
from tests.eqvae.test_autoencoders_vq import tiny_vq
from tests.eqvae.tiny import tiny_autoencoder

NORMALIZATIONS = {
    "one scale": Normalization((0.0,), (0.5,)),
    "one scale and shift": Normalization((0.1,) * 4, (1.5,) * 4),
    "per channel": Normalization((0.1, -0.2, 0.3, 0.0), (0.5, 0.8, 1.2, 0.3)),
    "scales alone": Normalization((0.0,) * 4, (0.5, 0.8, 1.2, 0.3)),
}
TOLERANCE = 1e-6  # of float32: three roundings


def scalar_pipeline(config, latents: torch.Tensor) -> torch.Tensor:
    """What Stable Diffusion 1 to 3 and DiT do."""
    return (latents - (config.shift_factor or 0.0)) * config.scaling_factor


def channel_pipeline(config, latents: torch.Tensor) -> torch.Tensor:
    """What StableDiffusionXLImg2ImgPipeline does with a config that has both lists."""
    mean, std = (torch.tensor(config[name]).view(1, -1, 1, 1) for name in ("latents_mean", "latents_std"))
    return (latents - mean) * config.scaling_factor / std


@pytest.fixture
def latents():
    return torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_pipeline_normalizes_as_we_do(name, latents, tmp_path):
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = NORMALIZATIONS[name]
    autoencoder.save_pretrained(tmp_path / "folder")
    config = AutoencoderKL.from_pretrained(tmp_path / "folder").config
    pipeline = scalar_pipeline if config.latents_mean is None else channel_pipeline
    assert (pipeline is scalar_pipeline) == name.startswith("one")
    expected = autoencoder.normalization.normalize(latents)
    torch.testing.assert_close(pipeline(config, latents), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_scalars_of_channels_that_differ_give_unit_variance(latents):
    """As diffusers documents `scaling_factor`: for pipelines that know no lists."""
    normalization = NORMALIZATIONS["per channel"]
    whitened = (latents - latents.mean((0, 2, 3), keepdim=True)) / latents.std((0, 2, 3), keepdim=True, correction=0)
    constants = to_constants(normalization)
    scaled = (normalization.denormalize(whitened) - constants["shift_factor"]) * constants["scaling_factor"]
    assert scaled.mean().abs() < 1e-6
    assert scaled.std(correction=0).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_the_constants_alone_give_the_normalization_back(name):
    found, expected = from_constants(to_constants(NORMALIZATIONS[name])), NORMALIZATIONS[name]
    for entry in ("shift", "scale"):
        numbers = getattr(expected, entry)
        assert getattr(found, entry) == pytest.approx(numbers if "per" in name or "alone" in name else numbers[:1])


def test_an_autoencoder_of_others_is_normalized_by_its_lists(tmp_path):
    tiny_autoencoder().model.save_pretrained(tmp_path / "folder")
    path = tmp_path / "folder" / "config.json"
    lists = {"latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [8.0, 4.0, 2.0, 1.0], "scaling_factor": 0.5}
    path.write_text(json.dumps(json.loads(path.read_text()) | lists))
    loaded = load_autoencoder(tmp_path / "folder").normalization
    assert loaded == Normalization((1.0, 2.0, 3.0, 4.0), (0.0625, 0.125, 0.25, 0.5))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"latents_std": [8.0, 4.0, 0.0, 1.0]}))
    with pytest.raises(ValueError, match="latents_mean, latents_std: scale must be positive") as error:
        load_autoencoder(tmp_path / "folder")
    assert str(tmp_path / "folder") in str(error.value)


def test_random_weights_have_no_constant_of_stable_diffusion(tmp_path):
    tiny_autoencoder().save_pretrained(tmp_path / "folder")
    config = AutoencoderKL.from_pretrained(tmp_path / "folder").config
    assert (config.scaling_factor, config.shift_factor, config.latents_mean) == (1.0, None, None)


def test_the_constants_of_the_base_may_be_kept_for_its_pipelines(tmp_path):
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = NORMALIZATIONS["per channel"]
    autoencoder.save_pretrained(tmp_path / "folder", constants=Normalization(scale=(0.18215,)))
    config = AutoencoderKL.from_pretrained(tmp_path / "folder").config
    assert (config.scaling_factor, config.shift_factor, config.latents_mean) == (0.18215, None, None)
    assert load_autoencoder(tmp_path / "folder").normalization == NORMALIZATIONS["per channel"]


def test_a_pipeline_of_an_autoencoder_with_lists_gets_none_of_them(tmp_path):
    """Their meaning is folded into its convolutions, or is one scale."""
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = NORMALIZATIONS["per channel"]
    autoencoder.save_pretrained(tmp_path / "folder")
    loaded = load_autoencoder(tmp_path / "folder")
    for normalization, scale in ((NORMALIZATIONS["per channel"], 1.0), (NORMALIZATIONS["one scale"], 0.5)):
        config = loaded.to_diffusers(normalization).config
        assert (config.scaling_factor, config.shift_factor) == (scale, None)
        assert (config.latents_mean, config.latents_std) == (None, None)


def test_a_codebook_has_the_scalar_alone(tmp_path):
    autoencoder = tiny_vq()
    channels = autoencoder.latent_channels
    autoencoder.normalization = Normalization((0.0,) * channels, tuple(1.0 + each for each in range(channels)))
    autoencoder.save_pretrained(tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["scaling_factor"] == to_constants(autoencoder.normalization)["scaling_factor"] != 1.0
    assert not {"shift_factor", "latents_mean"} & set(config)
    assert VQModel.from_pretrained(tmp_path / "folder")


def test_a_shift_of_none_is_the_zero_that_the_class_has(tmp_path):
    """Pipelines add the `shift_factor` of such a config as it is."""
    autoencoder = load_autoencoder({"_class_name": "AutoencoderTiny", **MODEL_CLASSES["AutoencoderTiny"].tiny})
    autoencoder.save_pretrained(tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert (config["shift_factor"], config["scaling_factor"]) == (0.0, 1.0)

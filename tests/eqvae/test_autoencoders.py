"""Autoencoders: folders that diffusers reads, normalization, fingerprints, errors, the packaged one."""

import hashlib
import json
import math

import diffusers
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from eqvae.autoencoders import LatentStatistics, Normalization, load_autoencoder
from eqvae.autoencoders.places import PACKAGED
from eqvae.autoencoders.registry import MODEL_CLASSES
from eqvae.data import ShapesSource, to_float
from eqvae.hashes import write_json
from eqvae.latents import LatentSpec
from tests.eqvae.tiny import smooth_images, tiny_autoencoder


@pytest.fixture
def exported(tmp_path):
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = Normalization((0.1, 0.2, 0.3, 0.4), (1.0, 2.0, 3.0, 4.0), "test", 5)
    autoencoder.save_pretrained(tmp_path / "autoencoder")
    return autoencoder, tmp_path / "autoencoder"


def assert_one_line(error):
    assert "\n" not in str(error.value)


@torch.no_grad()
def test_diffusers_reads_the_exported_folder(exported):
    autoencoder, folder = exported
    model = diffusers.AutoencoderKL.from_pretrained(folder).eval()
    images = smooth_images(16)
    posterior = model.encode(images).latent_dist
    assert torch.equal(posterior.mean, autoencoder.encode(images).mean)
    assert torch.equal(model.decode(posterior.mean).sample, autoencoder.decode(posterior.mean))


def test_export_and_load_round_trip(exported):
    autoencoder, folder = exported
    loaded = load_autoencoder(folder)
    assert loaded.fingerprint() == autoencoder.fingerprint()
    assert loaded.normalization == autoencoder.normalization
    assert (loaded.normalization.method, loaded.normalization.num_images) == ("test", 5)
    assert (loaded.latent_channels, loaded.downsampling_factor) == (4, 4)
    assert [entry.name for entry in folder.parent.iterdir()] == ["autoencoder"]


def test_an_exported_folder_is_readable_by_all_and_names_no_place(exported, tmp_path):
    load_autoencoder(exported[1]).save_pretrained(tmp_path / "again")
    assert "_name_or_path" not in json.loads((tmp_path / "again" / "config.json").read_text())
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (tmp_path / "again").iterdir())


def test_posterior_and_decoded_shapes():
    for factor in (4, 8):
        autoencoder = tiny_autoencoder(factor)
        posterior = autoencoder.encode(smooth_images(32))
        assert isinstance(posterior, DiagonalGaussianDistribution)
        assert posterior.mean.shape == (2, 4, 32 // factor, 32 // factor)
        assert posterior.kl().shape == (2,)
        assert autoencoder.decode(posterior.sample()).shape == (2, 3, 32, 32)
        assert posterior.std.mean() < 0.2, "a random autoencoder starts with a narrow posterior"


def test_random_weights_follow_the_seed():
    assert tiny_autoencoder(seed=1).fingerprint() == tiny_autoencoder(seed=1).fingerprint()
    assert tiny_autoencoder(seed=1).fingerprint() != tiny_autoencoder(seed=2).fingerprint()


def test_fingerprint_follows_the_weights_alone():
    autoencoder = tiny_autoencoder()
    before = autoencoder.fingerprint()
    autoencoder.normalization = Normalization((1.0,), (2.0,))
    assert autoencoder.fingerprint() == before
    with torch.no_grad():
        autoencoder.last_layer.view(-1)[0] += 1e-3
    assert autoencoder.fingerprint() != before


WIDE = {"block_out_channels": [32], "norm_num_groups": 32}
CONVOLUTIONS = {"down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"]}


@pytest.mark.parametrize(
    ("config", "other"),
    [
        (CONVOLUTIONS | WIDE, {"norm_num_groups": 8}),
        (CONVOLUTIONS | WIDE, {"act_fn": "relu"}),
        (CONVOLUTIONS | {"block_out_channels": [16], "norm_num_groups": 8}, {"norm_num_groups": 4}),
        ({"_class_name": "AutoencoderTiny"} | MODEL_CLASSES["AutoencoderTiny"].tiny, {"act_fn": "gelu"}),
        ({"_class_name": "AutoencoderKLMochi"} | MODEL_CLASSES["AutoencoderKLMochi"].tiny, {"act_fn": "relu"}),
    ],
)
def test_fingerprint_sees_what_no_weight_shows(config, other):
    """Of entries that differ alone: the weights are the same, latents or images are not."""
    one, two = load_autoencoder(config), load_autoencoder(config | other)
    weights = one.model.state_dict(), two.model.state_dict()
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert one.fingerprint() != two.fingerprint()


def test_fingerprints_that_are_recorded_stay():
    """Those of default entries are of the weights alone, and so are the packaged ones', of 8 groups."""
    packaged, wide = load_autoencoder("scenes-f4c8"), load_autoencoder(CONVOLUTIONS | WIDE)
    recorded = json.loads((PACKAGED / "scenes-f4c8-eq" / "normalization.json").read_text())
    assert packaged.fingerprint() == recorded["origin"]["start"]["fingerprint"]
    digest = hashlib.sha256()
    for name, value in sorted(wide.model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode() + value.numpy().tobytes())
    assert wide.fingerprint() == digest.hexdigest()


def test_normalization_round_trip(tmp_path):
    normalization = Normalization((0.5, -1.0), (2.0, 0.25), "test", 3)
    raw = torch.randn(4, 2, 3, 3)
    torch.testing.assert_close(normalization.denormalize(normalization.normalize(raw)), raw)
    torch.testing.assert_close(normalization.normalize(raw)[:, 0], (raw[:, 0] - 0.5) * 2)
    write_json(tmp_path / "normalization.json", normalization.to_dict())
    assert Normalization.load(tmp_path) == normalization
    assert Normalization.from_dict(json.loads(json.dumps(normalization.to_dict()))) == normalization


def test_normalization_missing_or_damaged(tmp_path):
    assert Normalization.load(tmp_path) is None
    for content in ("{", "[1]", "null", "{}", '{"shifts": [0]}', '{"shift": ["a"], "scale": [1]}'):
        (tmp_path / "normalization.json").write_text(content)
        with pytest.raises(ValueError, match=r"normalization\.json is not a latent normalization") as error:
            Normalization.load(tmp_path)
        assert_one_line(error)


IMPOSSIBLE = {
    "NaN scale": ([0.0], [math.nan], "scale must hold finite numbers, got nan"),
    "infinite scale": ([0.0], [math.inf], "scale must hold finite numbers, got inf"),
    "zero scale": ([0.0], [0.0], "scale must be positive, got 0.0"),
    "negative scale": ([0.0] * 2, [1.0, -2.0], "scale must be positive, got -2.0"),
    "scale that is zero in float32": ([0.0], [1e-320], "scale must be positive, got 1e-320"),
    "NaN shift": ([math.nan], [1.0], "shift must hold finite numbers, got nan"),
    "number beyond float32": ([1e300], [1.0], r"shift must hold finite numbers, got 1e\+300"),
    "whole number beyond float64": ([10**400], [1.0], "shift must hold finite numbers, got 10000"),
    "lengths": ([0.0], [1.0] * 4, "shift has 1 numbers, scale 4"),
    "none": ([], [], "shift must be a list of 1 to 2048 numbers, got 0 of them"),
    "thousands": ([0.0] * 5000, [1.0] * 5000, "shift must be a list of 1 to 2048 numbers, got 5000 of them"),
    "string": ("0", "123", "shift must be a list of 1 to 2048 numbers, got '0'"),
    "bare number": ([0.0], 0.18215, "scale must be a list of 1 to 2048 numbers, got 0.18215"),
    "strings": ([0.0], ["0.18215"], "scale must hold finite numbers, got '0.18215'"),
    "truth": ([0.0], [True], "scale must hold finite numbers, got True"),
    "lists": ([[0.0]], [1.0], r"shift must hold finite numbers, got \[0.0\]"),
}


@pytest.mark.parametrize(("shift", "scale", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_normalization_that_cannot_be_is_refused_by_name(shift, scale, message, exported):
    with pytest.raises(ValueError, match=f"^{message}"):
        Normalization(shift, scale)
    folder = exported[1]
    (folder / "normalization.json").write_text(json.dumps({"shift": shift, "scale": scale}))
    with pytest.raises(ValueError, match=message) as error:
        load_autoencoder(folder)
    assert_one_line(error)
    assert str(folder / "normalization.json") in str(error.value)
    assert len(str(error.value)) < 500


def test_constants_of_a_config_that_cannot_be_are_refused(exported):
    folder = exported[1]
    (folder / "normalization.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"scaling_factor": math.nan}))
    with pytest.raises(ValueError, match=r"scale must hold finite numbers, got nan") as error:
        load_autoencoder(folder)
    assert_one_line(error)
    assert str(folder) in str(error.value)


def test_a_normalization_of_other_channels_is_refused(exported):
    folder = exported[1]
    (folder / "normalization.json").write_text(json.dumps({"shift": [0.0] * 3, "scale": [1.0] * 3}))
    with pytest.raises(ValueError, match="the normalization is of 3 channels, the latents have 4") as error:
        load_autoencoder(folder)
    assert str(folder) in str(error.value)
    with pytest.raises(ValueError, match="of 3 channels, the latents have 4"):
        LatentSpec((4, 8, 8), 4, None, Normalization((0.0,) * 3, (1.0,) * 3))


def test_statistics_are_those_of_posterior_samples():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(400, 2, 8, 8, generator=generator) * torch.tensor([3.0, 0.1])[:, None, None] + 5
    std = torch.rand(400, 2, 8, 8, generator=generator)
    statistics = LatentStatistics()
    for part in range(0, 400, 130):
        statistics.update(mean[part : part + 130], std[part : part + 130])
    normalization = statistics.normalization()
    assert normalization.num_images == 400
    normalized = normalization.normalize(mean + std * torch.randn(mean.shape, generator=generator))
    torch.testing.assert_close(normalized.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=0.03)
    torch.testing.assert_close(normalized.std((0, 2, 3)), torch.ones(2), rtol=0, atol=0.02)


@pytest.mark.parametrize("source", ["/absent", "./absent", ""])
def test_unknown_source(source):
    with pytest.raises(ValueError, match="shapes-f4c8") as error:
        load_autoencoder(source)
    assert_one_line(error)


def test_folder_without_config(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json") as error:
        load_autoencoder(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert_one_line(error)


@pytest.mark.parametrize("damage", ["truncated", "missing", "config"])
def test_damaged_folder_of_others(exported, damage):
    _, folder = exported
    (folder / "normalization.json").unlink()  # and with it the hashes
    weights = folder / "diffusion_pytorch_model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "missing":
        weights.unlink()
    else:
        (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read") as error:
        load_autoencoder(folder)
    assert str(folder) in str(error.value)
    assert_one_line(error)


def test_unknown_config_key():
    with pytest.raises(ValueError, match=r"unknown keys \['latent_chanels'\]") as error:
        load_autoencoder({"latent_chanels": 4})
    assert_one_line(error)


def test_random_weights_have_no_published_constant():
    assert tiny_autoencoder().normalization == Normalization(), "not that of Stable Diffusion, diffusers' default"


@torch.no_grad()
def test_packaged_autoencoder_reconstructs_shapes():
    autoencoder = load_autoencoder("shapes-f4c8").freeze()
    images = to_float(ShapesSource(64, 32, seed=1).images)
    posterior = autoencoder.encode(images)
    error = (autoencoder.decode(posterior.mean).clamp(-1, 1) - images).square().mean((1, 2, 3))
    psnr = 10 * torch.log10(4 / error).mean()
    assert psnr > 30
    normalized = autoencoder.normalization.normalize(posterior.sample(torch.Generator().manual_seed(0)))
    assert (autoencoder.latent_channels, autoencoder.downsampling_factor) == (8, 4)
    assert 0.85 < normalized.std() < 1.15

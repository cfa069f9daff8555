"""All families of autoencoders, by one test; and what is particular to some."""

import json
import threading

import pytest
import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from safetensors.torch import save_file

from eqvae.autoencoders import Normalization, load_autoencoder
from eqvae.autoencoders.families import FAMILIES, create_model
from eqvae.autoencoders.ldm import ATTENTION_WEIGHT, ldm_name
from eqvae.autoencoders.registry import MODEL_CLASSES
from eqvae.data import ImageDataModule
from eqvae.equivariance import equivariance_errors
from eqvae.exports import AutoencoderExport
from eqvae.latents import LatentSpec, create_cache_writer, open_cache
from eqvae.module import AutoencoderModule
from eqvae.regularizers import Equivariance, Regularizers, ScaleEquivariance, TransformDistribution
from tests.eqvae.test_objective import images
from tests.families import PIXELS, SHAPES, examine, is_installed, normalizing, rows_of_page, stand_ins, table, tiny

INSTALLED = [name for name in MODEL_CLASSES if is_installed(name)]


@pytest.mark.parametrize("name", INSTALLED)
def test_a_family_does_what_the_page_says(name, tmp_path):
    with stand_ins():
        row = table([examine(name, tmp_path)]).splitlines()[-1]
    assert row == rows_of_page()[name], "docs/families.md is another: python -m tests.families"


def test_the_page_has_all_families():
    assert list(rows_of_page()) == list(MODEL_CLASSES)


@pytest.mark.parametrize("family", [name for name, config in FAMILIES.items() if set(config) == {"_class_name"}])
def test_a_published_config_is_that_of_diffusers(family):
    if not is_installed(FAMILIES[family]["_class_name"]):
        pytest.skip("the installed diffusers has no such class")
    with torch.device("meta"):
        model = create_model({"family": family})
        published = type(model)().config
    assert {key: model.config[key] for key in published if key[0] != "_"} == {
        key: value for key, value in published.items() if key[0] != "_"
    }


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="AutoencoderRAE needs the package transformers: pip install transformers"):
        tiny("AutoencoderRAE")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "AutoencoderOobleck"}, "of class 'AutoencoderOobleck', which is no autoencoder here"),
        ({"_class_name": "AutoencoderKLLTXVideo", "timestep_conditioning": True}, "its decoder asks for a time"),
        ({"_class_name": "AutoencoderDC", "latent_channels": 1 << 20}, "latent_channels is 1048576, not a number up"),
        ({"_class_name": "AutoencoderTiny", "latent_channels": [4]}, r"latent_channels is \[4\], not a number"),
        ({"_class_name": "AutoencoderKLWan", "width": 8}, r"unknown keys \['width'\]: see diffusers.AutoencoderKLWan"),
        ({"_class_name": "AutoencoderTiny", "padding_mode": "reflect"}, "AutoencoderTiny pads in its own way"),
    ],
)
def test_a_config_that_cannot_be_is_one_line(config, message):
    with pytest.raises(ValueError, match=message) as error:
        load_autoencoder(config)
    assert "\n" not in str(error.value)


def test_a_folder_whose_config_is_larger_than_its_weights_is_refused(tmp_path):
    tiny("AutoencoderDC").save_pretrained(tmp_path / "dc")
    (tmp_path / "dc" / "normalization.json").unlink()
    path = tmp_path / "dc" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"encoder_block_out_channels": [1 << 13, 1 << 14]}))
    with pytest.raises(ValueError, match="its config describes"):
        load_autoencoder(tmp_path / "dc")


def test_an_unknown_normalization_is_estimated_or_refused(tmp_path):
    autoencoder, data = tiny("AutoencoderKLKVAE"), ImageDataModule(SHAPES, evaluation_batch_size=4)
    for refused in (
        lambda: autoencoder.save_pretrained(tmp_path / "x"),
        lambda: LatentSpec.of(autoencoder, (4, 16, 16)),
    ):
        with pytest.raises(ValueError, match=r"no known normalization: train\.py predict estimates it"):
            refused()
    assert not (tmp_path / "x").exists()
    AutoencoderExport(None, 8, autoencoder).settle_normalization(autoencoder, data)
    batch = next(iter(ImageDataModule(SHAPES, evaluation_batch_size=8).predict_dataloader()))
    moments = autoencoder.latent_moments(batch["image"])
    normalized = autoencoder.normalization.normalize(moments[0])
    assert normalized.mean().abs() < 1e-4
    assert normalized.std() == pytest.approx(1, abs=0.2)  # of means; the estimate counts the spread, too
    spec = LatentSpec.of(autoencoder, (4, 16, 16))
    assert spec.difference(tiny("AutoencoderKLKVAE")) is None, "the same autoencoder, loaded anew, knows none"


def test_what_an_export_estimates_is_never_that_of_the_start(tmp_path):
    autoencoder, data = tiny("AutoencoderKLKVAE"), ImageDataModule(SHAPES, global_batch_size=4)
    export = AutoencoderExport(None, 4, autoencoder)
    for steps in (1, 2):
        export.write(autoencoder, data, tmp_path / "folder", steps, {})
    origin = json.loads((tmp_path / "folder" / "normalization.json").read_text())["origin"]
    assert (origin["num_steps"], origin["start"]["normalization"]) == (2, None)


def test_a_single_file_of_a_class_has_the_constants_of_its_family_or_none(tmp_path):
    path = tmp_path / "vae.safetensors"
    config = {"_class_name": "AutoencoderKLWan", **MODEL_CLASSES["AutoencoderKLWan"].tiny}
    save_file({f"vae.{name}": value for name, value in load_autoencoder(config).model.state_dict().items()}, path)
    assert not load_autoencoder(path, config=config).has_normalization, "diffusers' defaults are of other weights"
    lists = {"latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [8.0, 4.0, 2.0, 1.0]}
    assert load_autoencoder(path, config=config | lists).normalization == Normalization(
        (1.0, 2.0, 3.0, 4.0), (0.125, 0.25, 0.5, 1.0)
    )
    with pytest.raises(ValueError, match="is no AutoencoderKLWan of this config") as error:
        load_autoencoder(path, config=config | {"base_dim": 16})
    assert str(path) in str(error.value)


def test_the_published_file_of_flux2_is_read(tmp_path):
    """In the layout of latent-diffusion, with the batch norm beside it."""
    name, path = "AutoencoderKLFlux2", tmp_path / "flux2.safetensors"
    autoencoder = tiny(name)
    autoencoder.write_constants(normalizing(16))
    state = {ldm_name(key, 2): value for key, value in autoencoder.model.state_dict().items()}
    linear = {key: value[:, :, None, None] for key, value in state.items() if ATTENTION_WEIGHT.search(key)}
    assert len(linear) == 8
    save_file({key: value.contiguous() for key, value in (state | linear).items()}, path)
    loaded = load_autoencoder(path, config={"_class_name": name, **MODEL_CLASSES[name].tiny})
    assert loaded.fingerprint() == autoencoder.fingerprint()
    torch.testing.assert_close(torch.tensor(loaded.normalization.scale), torch.tensor(normalizing(16).scale))


def test_other_layouts_are_those_that_diffusers_converts(tmp_path, monkeypatch):
    path, converted = tmp_path / "vae.pt", tiny("AutoencoderDC").model
    torch.save({"decoder.project_in.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="is no AutoencoderTiny of this config: its keys are not those of diffusers"):
        load_autoencoder(path, config={"_class_name": "AutoencoderTiny", **MODEL_CLASSES["AutoencoderTiny"].tiny})
    given = {}

    def convert(checkpoint, config):
        given.update(config, keys=list(checkpoint))
        return converted.state_dict()

    monkeypatch.setitem(SINGLE_FILE_LOADABLE_CLASSES, "AutoencoderDC", {"checkpoint_mapping_fn": convert})
    loaded = load_autoencoder(path, config={"_class_name": "AutoencoderDC", **MODEL_CLASSES["AutoencoderDC"].tiny})
    assert loaded.fingerprint() == tiny("AutoencoderDC").fingerprint()
    assert (given["latent_channels"], given["scaling_factor"]) == (4, 1.0)
    assert given["keys"] == ["decoder.project_in.weight"]


@pytest.mark.parametrize("name", ["AutoencoderKLWan", "AutoencoderDC", "AutoencoderTiny"])
def test_a_file_that_lacks_a_weight_or_has_more_is_none_of_the_config(name, tmp_path):
    """diffusers' converters would leave what is missing random, and what is more unread."""
    state, path = tiny(name).model.state_dict(), tmp_path / "vae.safetensors"
    last = [key for key in state if key.startswith("decoder.")][-1]
    for content, words in (
        ({key: value for key, value in state.items() if key != last}, f"missing keys {last}, unexpected keys none"),
        (state | {"decoder.more.weight": torch.ones(1)}, "missing keys none, unexpected keys decoder.more.weight"),
    ):
        save_file({key: value.contiguous() for key, value in content.items()}, path)
        with pytest.raises(ValueError, match=f"is no {name} of this config: {words}"):
            load_autoencoder(path, config={"_class_name": name, **MODEL_CLASSES[name].tiny})
    save_file({key: value.contiguous() for key, value in state.items()} | {"unet.weight": torch.ones(1)}, path)
    load_autoencoder(path, config={"_class_name": name, **MODEL_CLASSES[name].tiny})


def test_a_converted_file_that_lacks_a_weight_is_refused_and_keeps_its_constants(tmp_path, monkeypatch):
    name, path = "AutoencoderKLLTXVideo", tmp_path / "ltx.safetensors"
    autoencoder = tiny(name)
    autoencoder.write_constants(normalizing(4))
    state = {key: value.contiguous() for key, value in autoencoder.model.state_dict().items()}
    save_file({f"published.{key}": value for key, value in state.items()}, path)

    def convert(checkpoint, **options):
        return {key.removeprefix("published."): value for key, value in checkpoint.items()}

    monkeypatch.setitem(SINGLE_FILE_LOADABLE_CLASSES, name, {"checkpoint_mapping_fn": convert})
    config = {"_class_name": name, **MODEL_CLASSES[name].tiny}
    loaded = load_autoencoder(path, config=config)
    assert loaded.fingerprint() == autoencoder.fingerprint()
    torch.testing.assert_close(torch.tensor(loaded.normalization.scale), torch.tensor(normalizing(4).scale))
    save_file({f"published.{key}": value for key, value in state.items() if "conv_out" not in key}, path)
    with pytest.raises(ValueError, match=r"missing keys encoder\.conv_out"):
        load_autoencoder(path, config=config)


def test_of_several_latent_frames_the_first_counts(tmp_path):
    autoencoder = tiny("AutoencoderKLCosmos", latents_mean=list(range(8)), latents_std=[2.0, 9.0] * 4)
    assert autoencoder.normalization == Normalization((0.0, 2.0, 4.0, 6.0), (0.5,) * 4)
    autoencoder.save_pretrained(tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert (config["latents_mean"], config["latents_std"]) == ([0, 0, 2, 2, 4, 4, 6, 6], [2.0] * 8)


@torch.no_grad()
def test_threads_share_an_autoencoder_that_keeps_state():
    autoencoder = tiny("AutoencoderKLWan")
    latents = autoencoder.latent_moments(images(4))[0]
    expected, found = autoencoder.decode(latents), {}
    threads = [
        threading.Thread(target=lambda row=row: found.update({row: _decoded(autoencoder, latents[row : row + 1])}))
        for row in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in range(4):
        torch.testing.assert_close(found[row], expected[row : row + 1])
    with pytest.raises(ValueError, match="cannot be compiled: set compile to false"):
        _ = autoencoder.networks


def _decoded(autoencoder, latents):
    with torch.no_grad():
        return autoencoder.decode(latents)


@torch.no_grad()
def test_a_turn_acts_inside_the_patches_of_a_packed_latent():
    autoencoder = tiny("AutoencoderKLFlux2")
    posterior = autoencoder.posterior(images(2)).mean
    turned = torch.rot90(posterior, 1, (2, 3))
    assert torch.equal(autoencoder.unpack(autoencoder.pack(turned)), turned)
    assert not torch.equal(autoencoder.pack(turned), torch.rot90(autoencoder.pack(posterior), 1, (2, 3)))
    decoded = autoencoder.transformed_decode(posterior, lambda latents: torch.rot90(latents, 1, (2, 3))).images
    torch.testing.assert_close(decoded, autoencoder.decode(autoencoder.pack(turned)))


@torch.no_grad()
def test_nothing_reaches_an_image_but_through_the_last_layer():
    with stand_ins():
        for name in INSTALLED:
            autoencoder = tiny(name)
            latents = autoencoder.latent_moments(images(2))[0]
            autoencoder.last_layer.zero_()
            first, second = autoencoder.decode(latents)
            assert torch.equal(first, second), name


def test_tiles_are_part_of_what_a_cache_is_known_by(tmp_path):
    autoencoder, data = tiny("AutoencoderKL"), ImageDataModule(SHAPES, evaluation_batch_size=8)
    autoencoder.encode_in_tiles(16)
    writer = create_cache_writer(tmp_path, autoencoder, data.description(), tile_size=16)
    for batch in data.predict_dataloader():
        writer.add(batch)
    writer.finish()
    assert open_cache(tmp_path).manifest["tile_size"] == 16
    with pytest.raises(ValueError, match="another tile_size"):
        create_cache_writer(tmp_path, autoencoder, data.description())
    with pytest.raises(ValueError, match="tile_size 12 is no multiple of 8"):
        autoencoder.encode_in_tiles(12)
    with pytest.raises(ValueError, match="VQModel of diffusers encodes no tiles: set it to null"):
        tiny("VQModel").encode_in_tiles(16)


def test_a_foundation_autoencoder_takes_one_side_and_trains_its_decoder():
    with stand_ins():
        autoencoder = tiny("AutoencoderRAE")
    autoencoder.require_image_size(32, "image_size")
    with pytest.raises(ValueError, match=r"image_size 64: .* use 32"):
        autoencoder.require_image_size(64, "image_size")
    with pytest.raises(ValueError, match="its encoder is a frozen foundation model"):
        autoencoder.require_trainable(decoder_alone=False)
    assert autoencoder.to_model(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]


def test_a_foundation_autoencoder_adds_no_noise_of_its_own_and_is_asked_for_no_smaller_images():
    with stand_ins():
        autoencoder = tiny("AutoencoderRAE", noise_tau=0.8).train()
        batch = images(32)
        assert torch.equal(autoencoder.encode(batch).mean, autoencoder.encode(batch).mean)
        errors = equivariance_errors(autoencoder.eval(), batch)["decoded"]
        assert set(errors) == {f"rotation {turn}" for turn in (90, 180, 270)}
        for regularizer in (ScaleEquivariance(), Equivariance("paper")):
            with pytest.raises(ValueError, match=f"regularizers: {regularizer.name} shrinks latents"):
                Regularizers([regularizer], autoencoder.freeze_latents() or autoencoder)
        turns = TransformDistribution(scale="none", low_resolution_probability=0.0)
        assert len(Regularizers([Equivariance(turns)], autoencoder)) == 1


@pytest.mark.parametrize("name", ["VQModel", "AutoencoderTiny"])
def test_a_stronger_divergence_is_refused_where_nothing_has_a_spread(name):
    config = {"_class_name": name, **MODEL_CLASSES[name].tiny}
    AutoencoderModule(config, None, PIXELS)
    with pytest.raises(ValueError, match=rf"kl_weight 0\.001: latents of {name} have no spread, so leave it out"):
        AutoencoderModule(config, None, PIXELS, kl_weight=1e-3)


def test_latent_diffusion_has_no_layout_of_others(tmp_path):
    with pytest.raises(ValueError, match="no layout for AutoencoderTiny: export a folder"):
        tiny("AutoencoderTiny").save_ldm(tmp_path / "x.safetensors")

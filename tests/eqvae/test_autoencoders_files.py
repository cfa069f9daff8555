"""Autoencoders from single files and from the hub's cache, into pipelines; wrong files and what is said of them."""

import sys
import zipfile
from pathlib import Path
from types import ModuleType

import diffusers
import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from eqvae.autoencoders import Normalization, VQAutoencoder, load_autoencoder
from eqvae.autoencoders.ldm import ATTENTION_WEIGHT
from eqvae.autoencoders.registry import MODEL_CLASSES
from eqvae.weights import read_tensors
from tests.eqvae.test_autoencoders_vq import tiny_vq
from tests.eqvae.tiny import smooth_images

CONFIG = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
}
GROUPS = {"norm_num_groups": 4}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture
def autoencoder():
    result = load_autoencoder(CONFIG).freeze()
    result.normalization = Normalization((0.5,) * 4, (2.0,) * 4, "test", 7)
    return result


def assert_one_line_naming(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text, f"{part} is not named in: {text}"


def old_names(state):
    for new, old in OLD_NAMES.items():
        state = {key.replace(f".{new}.", f".{old}."): value for key, value in state.items()}
    return state


def as_convolutions(state):
    attention = [".to_q.w", ".to_k.w", ".to_v.w", ".to_out.0.w"]
    return {
        key: value[:, :, None, None].contiguous() if any(part in key for part in attention) else value
        for key, value in state.items()
    }


@pytest.mark.parametrize("spelling", [dict, old_names, as_convolutions])
@pytest.mark.parametrize("prefix", ["", "vae.", "first_stage_model."])
def test_diffusers_keys_in_every_spelling(autoencoder, spelling, prefix, tmp_path):
    state = {prefix + key: value for key, value in spelling(autoencoder.model.state_dict()).items()}
    save_file(state, tmp_path / "vae.safetensors")
    loaded = load_autoencoder(tmp_path / "vae.safetensors", config=GROUPS)
    assert loaded.fingerprint() == autoencoder.fingerprint()


def test_ldm_attention_as_linear_weights(autoencoder, tmp_path):
    autoencoder.save_ldm(tmp_path / "ldm.safetensors")
    state = load_file(tmp_path / "ldm.safetensors")
    attention = [key for key in state if ATTENTION_WEIGHT.search(key)]
    assert len(attention) == 8
    assert all(state[key].ndim == 4 for key in attention)
    save_file(
        {k: v[:, :, 0, 0].contiguous() if k in attention else v for k, v in state.items()}, tmp_path / "l.safetensors"
    )
    assert load_autoencoder(tmp_path / "l.safetensors", config=GROUPS).fingerprint() == autoencoder.fingerprint()


def test_ldm_export_keeps_what_shapes_do_not_tell(autoencoder, tmp_path):
    autoencoder.save_ldm(tmp_path / "ldm.safetensors")
    loaded = load_autoencoder(tmp_path / "ldm.safetensors")
    assert loaded.normalization == autoencoder.normalization
    assert loaded.normalization.num_images == 7
    public = {key: value for key, value in autoencoder.model.config.items() if key[0] != "_"}
    assert {key: loaded.model.config[key] for key in public} == public


def test_constants_that_are_given_come_before_those_of_a_file(autoencoder, tmp_path):
    """Also before lists that its config has; a family says nothing of what was estimated."""
    lists = {"latents_mean": [1.0] * 4, "latents_std": [2.0] * 4}
    autoencoder.model.register_to_config(**lists)
    autoencoder.save_ldm(tmp_path / "ldm.safetensors")
    given = load_autoencoder(tmp_path / "ldm.safetensors", config={"scaling_factor": 0.3})
    assert given.normalization == Normalization((0.0,), (0.3,))
    shifted = load_autoencoder(tmp_path / "ldm.safetensors", config={"scaling_factor": 0.3, **lists})
    assert shifted.normalization == Normalization((1.0,) * 4, (0.15,) * 4)
    assert load_autoencoder(tmp_path / "ldm.safetensors", config=GROUPS).normalization == autoencoder.normalization


def test_half_precision_files_become_float32(autoencoder, tmp_path):
    state = {key: value.half() for key, value in autoencoder.model.state_dict().items()}
    save_file(state, tmp_path / "half.safetensors")
    loaded = load_autoencoder(tmp_path / "half.safetensors", config=GROUPS)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in loaded.parameters()), "a loaded file can be trained"
    assert torch.equal(loaded.last_layer, autoencoder.last_layer.half().float())


def test_loaded_weights_do_not_hang_on_the_file(autoencoder, tmp_path):
    torch.save(autoencoder.model.state_dict(), tmp_path / "weights.pt")
    loaded = load_autoencoder(tmp_path / "weights.pt", config=GROUPS)
    (tmp_path / "weights.pt").write_bytes(bytes((tmp_path / "weights.pt").stat().st_size))
    assert loaded.fingerprint() == autoencoder.fingerprint()


def test_scale_of_a_file_is_the_published_one_or_that_of_the_config(tmp_path):
    four_levels = CONFIG | {
        "block_out_channels": [8] * 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }
    save_file(load_autoencoder(four_levels).model.state_dict(), tmp_path / "vae.safetensors")
    source = tmp_path / "vae.safetensors"
    assert not load_autoencoder(source, config=GROUPS).has_normalization, "no published architecture"
    sdxl = load_autoencoder({"source": source, "config": GROUPS | {"scaling_factor": 0.13025}})
    assert sdxl.normalization.scale == (0.13025,)


class Callback:
    """What an old trainer pickles: a class as a key, objects with arguments and state."""

    def __init__(self, best):
        self.best = best

    def __reduce__(self):
        return Callback, (self.best,), {"monitor": "rec_loss"}


def test_checkpoint_with_objects_of_a_training_framework(autoencoder, tmp_path, monkeypatch):
    """The weights load, although the framework's classes are not there."""
    monkeypatch.setitem(sys.modules, "foreign", module := ModuleType("foreign"))
    monkeypatch.setattr(Callback, "__module__", "foreign")
    module.Callback = Callback
    content = {"callbacks": {Callback: {"best": Callback(1.0)}}, "state_dict": autoencoder.model.state_dict()}
    torch.save(content, tmp_path / "last.ckpt")
    monkeypatch.delitem(sys.modules, "foreign")
    with pytest.raises(Exception, match=r"foreign\.Callback"):
        torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert load_autoencoder(tmp_path / "last.ckpt", config=GROUPS).fingerprint() == autoencoder.fingerprint()


@pytest.mark.parametrize("name", ["state_dict", "ema", "model"])
def test_checkpoint_with_the_weights_in_a_container(autoencoder, name, tmp_path):
    """As training scripts write them; the averaged ones where there are two, and those alone that are tensors."""
    other = {key: value + 1 for key, value in autoencoder.model.state_dict().items()}
    beside = {"ema": {"decay": 0.9}, "model": other} if name != "model" else {"ema": {"decay": 0.9}}
    torch.save(beside | {name: autoencoder.model.state_dict(), "epoch": 3}, tmp_path / "weights.ckpt")
    assert load_autoencoder(tmp_path / "weights.ckpt", config=GROUPS).fingerprint() == autoencoder.fingerprint()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_names_of_several_devices_or_of_a_compiled_network(autoencoder, prefix, tmp_path):
    state = autoencoder.model.state_dict()
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "weights.pt")
    assert load_autoencoder(tmp_path / "weights.pt", config=GROUPS).fingerprint() == autoencoder.fingerprint()


def test_quantized_weights_are_refused(autoencoder, tmp_path):
    """Their whole numbers would be taken as the weights."""
    state = {name: (100 * value).to(torch.int8) for name, value in autoencoder.model.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors: .* is quantized \(int8\): give weights of float32"):
        load_autoencoder(tmp_path / "weights.safetensors", config=GROUPS)
    tiny = {"_class_name": "AutoencoderTiny"} | MODEL_CLASSES["AutoencoderTiny"].tiny
    state = {name: value.to(torch.int8) for name, value in load_autoencoder(tiny).model.state_dict().items()}
    save_file(state, tmp_path / "tiny.safetensors")
    with pytest.raises(ValueError, match=r"tiny\.safetensors is no AutoencoderTiny .* is quantized \(int8\)"):
        load_autoencoder(tmp_path / "tiny.safetensors", config=tiny)


def test_a_weight_under_two_names_is_one_where_both_have_its_values(autoencoder, tmp_path):
    state, path = autoencoder.model.state_dict(), tmp_path / "weights.pt"
    new, old = (f"encoder.mid_block.attentions.0.{name}.weight" for name in ("to_q", "query"))
    torch.save(state | {old: state[new]}, path)
    assert load_autoencoder(path, config=GROUPS).fingerprint() == autoencoder.fingerprint()
    torch.save(state | {old: state[new] + 1}, path)
    with pytest.raises(ValueError, match=r"one weight under two names, .*to_q\.weight and .*query\.weight"):
        load_autoencoder(path, config=GROUPS)


def test_files_run_no_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    for is_zip in (True, False):
        torch.save({"weight": torch.zeros(1), "x": Payload()}, tmp_path / "p.pt", _use_new_zipfile_serialization=is_zip)
        with pytest.raises(ValueError, match=r"p\.pt") as error:
            load_autoencoder(tmp_path / "p.pt")
        assert_one_line_naming(error)
        assert not (tmp_path / "ran").exists()


def wrong_files(folder: Path, autoencoder):
    """Name, content written, and what the error must name."""
    state = autoencoder.model.state_dict()
    (folder / "page.ckpt").write_text("<!DOCTYPE html><html>404 Not Found</html>")
    yield "page.ckpt", ["<!DOCTYPE html>"]
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    yield "pointer.safetensors", ["git-lfs"]
    (folder / "empty.safetensors").touch()
    yield "empty.safetensors", ["download complete"]
    for name, write in (("half.safetensors", save_file), ("half.ckpt", torch.save)):
        write(state, folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        yield name, ["download complete"]
    torch.save(state, folder / "old.ckpt", _use_new_zipfile_serialization=False)
    content = (folder / "old.ckpt").read_bytes()
    (folder / "old.ckpt").write_bytes(content[: len(content) // 2])
    yield "old.ckpt", ["download complete"]
    with zipfile.ZipFile(folder / "archive.pt", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    yield "archive.pt", ["cannot be read"]
    (folder / "garbage.pt").write_bytes(b"\x80\x02" + bytes(range(256)))
    yield "garbage.pt", ["cannot be read"]
    torch.save({"state_dict": [1, 2]}, folder / "inner.pt")
    yield "inner.pt", ["holds no state dict"]
    torch.save([1, 2], folder / "list.pt")
    yield "list.pt", ["holds no state dict"]
    save_file(
        {f"down_blocks.0.resnets.{i}.conv1.weight": torch.zeros(1) for i in range(7)}, folder / "unet.safetensors"
    )
    unet = ["encoder.conv_in.weight", "down_blocks.0.resnets.4.conv1.weight and 2 more", "LDM/taming", "diffusers"]
    yield "unet.safetensors", unet
    missing = {key: value for key, value in state.items() if "up_blocks.1" not in key} | {"extra.bias": torch.zeros(1)}
    save_file(missing, folder / "missing.safetensors")
    yield "missing.safetensors", ["decoder.up_blocks.1.resnets.0.norm1.weight", " more, unexpected keys extra.bias"]
    anchors = ("encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
    save_file({key: torch.zeros(1, 1, 1, 1) for key in anchors}, folder / "other.safetensors")
    yield "other.safetensors", ["encoder.down.0.block.0.conv1.weight"]
    shapes = state | {"quant_conv.weight": torch.zeros(6, 8, 1, 1)}
    save_file(shapes, folder / "shape.safetensors")
    yield "shape.safetensors", ["quant_conv.weight has shape [6, 8, 1, 1] instead of [8, 8, 1, 1]"]


@pytest.mark.parametrize("spelling", [dict, old_names])
def test_folder_with_attention_in_every_spelling(autoencoder, spelling, tmp_path):
    """The published SD-VAE folders have the old names."""
    autoencoder.model.save_pretrained(tmp_path / "folder")
    save_file(spelling(autoencoder.model.state_dict()), tmp_path / "folder" / "diffusion_pytorch_model.safetensors")
    assert load_autoencoder(tmp_path / "folder").fingerprint() == autoencoder.fingerprint()


def test_narrow_file_without_a_config(autoencoder, tmp_path):
    save_file(autoencoder.model.state_dict(), tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match="give a config") as error:
        load_autoencoder(tmp_path / "narrow.safetensors")
    assert_one_line_naming(error, tmp_path / "narrow.safetensors", "divisible")


def test_wrong_files_are_named_in_one_line(autoencoder, tmp_path):
    for name, parts in wrong_files(tmp_path, autoencoder):
        with pytest.raises(ValueError, match="file") as error:
            load_autoencoder(tmp_path / name, config=GROUPS)
        assert_one_line_naming(error, tmp_path / name, *parts)


def test_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"no autoencoder at 'weights/last\.ckpt': give a folder, a file"):
        load_autoencoder("weights/last.ckpt")
    with pytest.raises(ValueError, match="cannot be read"):
        read_tensors(tmp_path / "absent.ckpt")


def test_config_and_options_where_they_do_not_belong(autoencoder, tmp_path):
    autoencoder.save_pretrained(tmp_path / "folder")
    with pytest.raises(ValueError, match="config is for single files"):
        load_autoencoder(tmp_path / "folder", config=GROUPS)
    with pytest.raises(ValueError, match=r"unknown keys \['scale'\] beside source"):
        load_autoencoder({"source": "shapes-f4c8", "scale": 2})


def test_folder_with_missing_weights_is_refused(autoencoder, tmp_path):
    """diffusers would fill the gap with random numbers."""
    autoencoder.model.save_pretrained(tmp_path / "folder")
    path = tmp_path / "folder" / "diffusion_pytorch_model.safetensors"
    save_file({key: value for key, value in load_file(path).items() if "conv_out.bias" not in key}, path)
    with pytest.raises(ValueError, match=r"missing keys decoder\.conv_out\.bias, encoder\.conv_out\.bias") as error:
        load_autoencoder(tmp_path / "folder")
    assert_one_line_naming(error, tmp_path / "folder")


@pytest.mark.parametrize("options", [{"safe_serialization": False}, {"variant": "fp16"}])
@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "20KB"}])
def test_folder_of_pickles_or_of_a_variant_alone(autoencoder, options, shards, tmp_path):
    """As older and half-precision downloads are; the same weights come from the hub, too."""
    autoencoder.model.save_pretrained(tmp_path / "folder", **options, **shards)
    assert (len(list((tmp_path / "folder").iterdir())) > 2) == bool(shards)
    assert load_autoencoder(tmp_path / "folder").fingerprint() == autoencoder.fingerprint()


def test_a_variant_never_comes_before_the_weights_themselves(autoencoder, tmp_path):
    autoencoder.model.save_pretrained(tmp_path / "folder", safe_serialization=False)
    half = {name: value.half() for name, value in autoencoder.model.state_dict().items()}
    save_file(half, tmp_path / "folder" / "diffusion_pytorch_model.fp16.safetensors")
    assert load_autoencoder(tmp_path / "folder").fingerprint() == autoencoder.fingerprint()


def test_folder_with_a_weight_of_another_shape_names_it(autoencoder, tmp_path):
    autoencoder.model.save_pretrained(tmp_path / "folder")
    path = tmp_path / "folder" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(path) | {"quant_conv.bias": torch.zeros(4000)}, path)
    with pytest.raises(ValueError, match=r"size mismatch for quant_conv\.bias") as error:
        load_autoencoder(tmp_path / "folder")
    assert_one_line_naming(error, tmp_path / "folder")


def test_pipeline_folder_names_the_autoencoder_inside(autoencoder, tmp_path):
    autoencoder.save_pretrained(tmp_path / "pipeline" / "vae")
    with pytest.raises(ValueError, match="give its vae folder"):
        load_autoencoder(tmp_path / "pipeline")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache; returns how to put a folder into it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def publish(autoencoder, name, subfolder=""):
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        autoencoder.save_pretrained(repository / "snapshots" / ("0" * 40) / subfolder)

    return publish


@pytest.mark.parametrize("subfolder", ["", "vae"])
def test_hub_id(autoencoder, hub, subfolder):
    hub(autoencoder, "owner/name", subfolder)
    loaded = load_autoencoder(f"owner/name/{subfolder}".rstrip("/"))
    assert loaded.fingerprint() == autoencoder.fingerprint()
    assert loaded.normalization == autoencoder.normalization


def test_hub_id_of_a_vq_autoencoder(hub):
    hub(tiny_vq(), "owner/vq")
    assert isinstance(load_autoencoder("owner/vq"), VQAutoencoder)


def test_hub_without_normalization_gives_the_constants_of_the_config(autoencoder, hub, tmp_path):
    hub(autoencoder, "owner/name")
    next((tmp_path / "hub").rglob("normalization.json")).unlink()
    assert load_autoencoder("owner/name").normalization == Normalization((0.5,), (2.0,))


@torch.no_grad()
def test_dit_pipeline_takes_the_exported_folder(autoencoder, tmp_path):
    autoencoder.save_pretrained(tmp_path / "folder")
    vae = diffusers.AutoencoderKL.from_pretrained(tmp_path / "folder")
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=8
    )
    pipeline = diffusers.DiTPipeline(transformer, vae, diffusers.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline([0], num_inference_steps=2, output_type="np").images.shape == (1, 16, 16, 3)


@torch.no_grad()
def test_stable_diffusion_pipeline_takes_the_exported_folder(autoencoder, tmp_path):
    pytest.importorskip("transformers", reason="StableDiffusionPipeline needs transformers")
    autoencoder.save_pretrained(tmp_path / "folder")
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(tmp_path / "folder"),
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    prompt = torch.zeros(1, 3, 8)
    images = pipeline(
        prompt_embeds=prompt,
        negative_prompt_embeds=prompt,
        num_inference_steps=2,
        height=16,
        width=16,
        output_type="np",
    ).images
    assert images.shape == (1, 16, 16, 3)


@torch.no_grad()
def test_vq_file_round_trip(tmp_path):
    autoencoder = tiny_vq().freeze()
    autoencoder.save_ldm(tmp_path / "vq.safetensors")
    torch.save({"state_dict": load_file(tmp_path / "vq.safetensors")}, tmp_path / "vq.ckpt")
    loaded = load_autoencoder(tmp_path / "vq.ckpt", config=GROUPS).freeze()
    images = smooth_images(16)
    assert torch.equal(loaded.encode(images).indices, autoencoder.encode(images).indices)
    assert loaded.fingerprint() == autoencoder.fingerprint()

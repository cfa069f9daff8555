"""Sizes of a backbone that follow the cache: numbers in every file, and the same training as with numbers."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from dit.backbones import DiT, HaltonMaskGIT, MaskGIT, SiT, create_backbone, create_token_backbone
from dit.backbones.patches import comparable_patch, published_pixels
from dit.checkpoints import load_generator
from dit.following import follow_cache
from eqvae.training.settings import SETTINGS
from tests.tiny import stage_two

BACKBONE = "model.init_args.backbone.init_args"
AUTO = {f"{BACKBONE}.{name}": "auto" for name in ("input_size", "in_channels", "num_classes", "patch_size")}


@pytest.mark.parametrize(
    ("name", "image_side", "patches"),
    [
        ("SiT-XL/2", 256, {4: 4, 8: 2, 16: 1, 32: 1}),
        ("DiT-B/4", 256, {4: 8, 8: 4, 16: 2, 32: 1}),
        ("LightningDiT-XL/1", 256, {8: 2, 16: 1}),
        ("LightningDiT-XL/2", 512, {8: 2, 16: 1, 32: 1}),
        (None, 256, {8: 2, 16: 1, 64: 1}),
        (None, 32, {4: 2, 8: 1, 16: 1}),
        ("SiT-B/2", 72, {8: 3}),  # 3 x 3 tokens are nearer to 4.5 x 4.5 than 9 x 9
        ("SiT-B/2", 28, {4: 1}),
    ],
)
def test_the_number_of_tokens_stays(name, image_side, patches):
    for factor, patch in patches.items():
        assert comparable_patch(image_side // factor, factor, published_pixels(name)) == patch


def test_what_is_auto_becomes_what_the_cache_has(cache, tmp_path, capsys):
    """The tiny recipe has the numbers of this cache already, so that both trainings are the same one."""
    weights = {}
    for name, sizes in (("numbers", {}), ("auto", AUTO)):
        cli = stage_two(tmp_path / name, cache, sizes | {"trainer.max_steps": 1})
        cli.trainer.fit(cli.model, cli.datamodule)
        cli.trainer.save_checkpoint(tmp_path / f"{name}.ckpt")
        weights[name] = load_generator(tmp_path / f"{name}.ckpt").backbone
    assert weights["auto"].config == weights["numbers"].config
    for key, value in weights["numbers"].state_dict().items():
        assert torch.equal(value, weights["auto"].state_dict()[key])
    stored = torch.load(tmp_path / "auto.ckpt", weights_only=True)
    arguments = stored[SETTINGS]["model"]["init_args"]["backbone"]["init_args"]
    assert [arguments[key.rpartition(".")[2]] for key in AUTO] == [8, 8, 10, 2]
    assert OmegaConf.to_yaml(stored["generator"]["backbone"]["config"]).count("auto") == 0


def test_it_is_said_in_a_line(cache):
    model = {"init_args": {"backbone": {"init_args": {"name": "SiT-B/2", "patch_size": "auto", "num_classes": "auto"}}}}
    line = follow_cache(model, {"init_args": {"cache": cache}})
    assert line == (
        f"backbone as the cache {cache}: patch_size 2, num_classes 10: 16 tokens "
        "(one for every 16 x 16 pixels, as published, would be 4)"
    )
    assert model["init_args"]["backbone"]["init_args"] == {"name": "SiT-B/2", "patch_size": 2, "num_classes": 10}
    assert follow_cache(model, {"init_args": {"cache": "none"}}) is None, "nothing is left to look up"


def test_what_no_cache_tells_is_refused(cache, tmp_path):
    depth = {"init_args": {"backbone": {"init_args": {"num_codes": "auto"}}}}
    with pytest.raises(ValueError, match=f"backbone.num_codes auto: the cache {cache} does not tell it"):
        follow_cache(depth, {"init_args": {"cache": cache}})
    with pytest.raises(ValueError, match=r"backbone.num_codes auto .* give data.init_args.cache"):
        follow_cache(depth, {"init_args": {}})
    with pytest.raises(ValueError, match="absent"):
        stage_two(tmp_path, Path("absent"), AUTO)


@pytest.mark.parametrize(
    "create",
    [DiT, SiT, MaskGIT, HaltonMaskGIT, create_backbone, create_token_backbone],
)
def test_only_a_config_has_a_cache_to_follow(create):
    with pytest.raises(ValueError, match="input_size auto: only a config of train"):
        create(input_size="auto")


def test_a_patch_of_its_own_takes_the_place_of_the_names():
    with torch.device("meta"):
        assert create_backbone("SiT-S/2", input_size=16, patch_size=4).config["patch_size"] == 4
        assert create_backbone("SiT-S/2", input_size=16).config["patch_size"] == 2

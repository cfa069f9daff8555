"""The autoencoders of diffusers that map images to a grid of latents: one entry for each class, data alone.

Class names, defaults and signatures are those of the installed diffusers. An entry says through which interface
(`eqvae.autoencoders.loading.INTERFACES`) a class is used, and what its config does not. The test over all of them
(tests/test_families.py) builds the smallest one of each, encodes, decodes, caches, trains, exports and reloads it.
"""

import importlib.util
import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers

Config = Mapping[str, Any]


def by_levels(name: str) -> Callable[[Config], int]:
    """A factor of 2 at each level but one; `name` lists the levels."""
    return lambda config: 2 ** (len(config[name]) - 1)


def by_entry(name: str) -> Callable[[Config], int]:
    """The factor that a config names."""
    return lambda config: config[name]


def _by_scaled_blocks(config: Config) -> int:
    """Of LTX: that of its patches, and 2 for each block that scales more than time."""
    blocks = zip(config["spatio_temporal_scaling"], config["downsample_type"], strict=True)
    return config["patch_size"] * 2 ** sum(bool(scales) and kind != "temporal" for scales, kind in blocks)


@dataclass(frozen=True)
class ModelClass:
    """What is known of a class of diffusers.

    Args:
        interface: through which it is used, a key of `eqvae.autoencoders.loading.INTERFACES`.
        example: published weights, as `load_autoencoder` takes them.
        downsampling: of a config: image side over side of the latents that its `encode` makes.
        tiny: config of the smallest one that is whole; tests build it.
        channels: entry of the config that has the channels of its latents.
        decoding: further arguments of its `decode`.
        unsupported: entries of a config that must be false, and why.
        frozen_encoder: why its decoder alone is trained; empty where both are.
        tiles: whether diffusers encodes single images of it in tiles, where the class has them.
        package: that diffusers needs for it.
    """

    interface: str
    example: str
    downsampling: Callable[[Config], int]
    tiny: Config
    channels: str = "latent_channels"
    decoding: Config = field(default_factory=dict)
    unsupported: Config = field(default_factory=dict)
    frozen_encoder: str = ""
    tiles: bool = True
    package: str = ""


def _levels(encoder: str, decoder: str | None = None, widths: tuple[int, ...] = (8, 16)) -> dict[str, Any]:
    """Levels of a tiny config whose blocks have these names."""
    types = {"down_block_types": (encoder,) * len(widths)} | (
        {"up_block_types": (decoder,) * len(widths)} if decoder else {}
    )
    return {"block_out_channels": widths, "latent_channels": 4, "layers_per_block": 1} | types


CONVOLUTIONS = _levels("DownEncoderBlock2D", "UpDecoderBlock2D") | {"norm_num_groups": 4, "sample_size": 32}
WAN = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [False]}
LTX = {
    "latent_channels": 4,
    "block_out_channels": (8, 8),
    "layers_per_block": (1, 1, 1),
    "patch_size": 2,
}
SHORTCUTS = {"latent_channels": 4, "layers_per_block": 1, "spatial_compression_ratio": 2}
TEMB = {"timestep_conditioning": "its decoder asks for a time and noise"}

MODEL_CLASSES: dict[str, ModelClass] = {
    "AutoencoderKL": ModelClass("kl", "stabilityai/sd-vae-ft-ema", by_levels("block_out_channels"), CONVOLUTIONS),
    "VQModel": ModelClass(
        "codes",
        "CompVis/ldm-celebahq-256/vqvae",
        by_levels("block_out_channels"),
        CONVOLUTIONS | {"num_vq_embeddings": 16, "vq_embed_dim": 4},
    ),
    "AsymmetricAutoencoderKL": ModelClass(
        "kl",
        "cross-attention/asymmetric-autoencoder-kl-x-1-5",
        by_levels("down_block_out_channels"),
        {key: CONVOLUTIONS[key] for key in ("down_block_types", "up_block_types", "latent_channels", "norm_num_groups")}
        | {"down_block_out_channels": (8, 16), "up_block_out_channels": (8, 16)},
    ),
    "AutoencoderKLTemporalDecoder": ModelClass(
        "kl",
        "stabilityai/stable-video-diffusion-img2vid/vae",
        by_levels("block_out_channels"),
        _levels("DownEncoderBlock2D", widths=(32, 32)),
        decoding={"num_frames": 1},
    ),
    "AutoencoderKLHunyuanImage": ModelClass(
        "kl",
        "hunyuanvideo-community/HunyuanImage-2.1-Diffusers/vae",
        by_entry("spatial_compression_ratio"),
        SHORTCUTS | {"in_channels": 3, "out_channels": 3, "block_out_channels": (32, 32), "sample_size": 32},
        tiles=False,
    ),
    "AutoencoderKLKVAE": ModelClass(
        "kl",
        "kandinskylab/KVAE-2D-1.0/diffusers",
        by_levels("ch_mult"),
        {"channels": 32, "num_enc_blocks": 1, "num_dec_blocks": 1, "z_channels": 4, "ch_mult": (1, 1)},
        channels="z_channels",
    ),
    "AutoencoderKLFlux2": ModelClass(
        "packed", "black-forest-labs/FLUX.2-klein-4B/vae", by_levels("block_out_channels"), CONVOLUTIONS
    ),
    "AutoencoderDC": ModelClass(
        "points",
        "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers",
        by_levels("encoder_block_out_channels"),
        {"latent_channels": 4, "attention_head_dim": 4}
        | {f"{part}_block_types": ("ResBlock", "EfficientViTBlock") for part in ("encoder", "decoder")}
        | {f"{part}_block_out_channels": (8, 16) for part in ("encoder", "decoder")}
        | {f"{part}_layers_per_block": (1, 1) for part in ("encoder", "decoder")}
        | {f"{part}_qkv_multiscales": ((), (5,)) for part in ("encoder", "decoder")},
    ),
    "AutoencoderTiny": ModelClass(
        "points",
        "madebyollin/taesd",
        by_levels("encoder_block_out_channels"),
        {"latent_channels": 4}
        | {f"{part}_block_out_channels": (8, 8) for part in ("encoder", "decoder")}
        | {f"num_{part}_blocks": (1, 1) for part in ("encoder", "decoder")},
        tiles=False,
    ),
    "AutoencoderRAE": ModelClass(
        "features",
        "nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08",
        by_entry("patch_size"),
        {"encoder_hidden_size": 64, "encoder_patch_size": 8, "encoder_input_size": 32, "encoder_num_hidden_layers": 1}
        | {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
        | {"decoder_intermediate_size": 64, "patch_size": 8, "image_size": 32},
        channels="encoder_hidden_size",
        frozen_encoder="its encoder is a frozen foundation model",
        tiles=False,
        package="transformers",
    ),
    "AutoencoderKLQwenImage": ModelClass("frame", "Qwen/Qwen-Image/vae", by_levels("dim_mult"), WAN, channels="z_dim"),
    "AutoencoderKLWan": ModelClass(
        "frame",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/vae",
        lambda config: by_levels("dim_mult")(config) * (config["patch_size"] or 1),
        WAN | {"scale_factor_spatial": 2},
        channels="z_dim",
    ),
    "AutoencoderKLCosmos": ModelClass(
        "frame-points",
        "nvidia/Cosmos-1.0-Tokenizer-CV8x8x8/vae",
        by_entry("spatial_compression_ratio"),
        {"latent_channels": 4, "attention_resolutions": (8,), "resolution": 32, "num_layers": 1, "patch_size": 2}
        | {"encoder_block_out_channels": (8, 16, 16), "decode_block_out_channels": (16, 16, 16)}
        | {"spatial_compression_ratio": 4, "temporal_compression_ratio": 2},
        tiles=False,
    ),
    "AutoencoderKLCogVideoX": ModelClass(
        "frame",
        "THUDM/CogVideoX-2b/vae",
        by_levels("block_out_channels"),
        _levels("CogVideoXDownBlock3D", "CogVideoXUpBlock3D", (8, 8))
        | {"norm_num_groups": 4, "temporal_compression_ratio": 2, "sample_height": 32, "sample_width": 32},
    ),
    "AutoencoderKLHunyuanVideo": ModelClass(
        "frame",
        "hunyuanvideo-community/HunyuanVideo/vae",
        by_entry("spatial_compression_ratio"),
        _levels("HunyuanVideoDownBlock3D", "HunyuanVideoUpBlock3D", (8,) * 4) | {"norm_num_groups": 4},
    ),
    "AutoencoderKLHunyuanImageRefiner": ModelClass(
        "frame",
        "hunyuanvideo-community/HunyuanImage-2.1-Refiner-Diffusers/vae",
        by_entry("spatial_compression_ratio"),
        SHORTCUTS | {"block_out_channels": (16, 16), "temporal_compression_ratio": 1},
        tiles=False,
    ),
    "AutoencoderKLLTXVideo": ModelClass(
        "frame",
        "Lightricks/LTX-Video/vae",
        _by_scaled_blocks,
        LTX
        | {"down_block_types": ("LTXVideoDownBlock3D",) * 2, "downsample_type": ("conv", "conv")}
        | {"decoder_block_out_channels": (8, 8), "decoder_layers_per_block": (1, 1, 1)}
        | {f"{part}spatio_temporal_scaling": (True, False) for part in ("", "decoder_")}
        | {"decoder_inject_noise": (False,) * 3, "upsample_residual": (False, False), "upsample_factor": (1, 1)},
        unsupported=TEMB,
    ),
    "AutoencoderKLLTX2Video": ModelClass(
        "frame",
        "Lightricks/LTX-2/vae",
        _by_scaled_blocks,
        LTX
        | {"down_block_types": ("LTX2VideoDownBlock3D",) * 2, "downsample_type": ("spatial", "spatial")}
        | {"decoder_block_out_channels": (8,), "decoder_layers_per_block": (1, 1), "upsample_type": ("spatial",)}
        | {"spatio_temporal_scaling": (True, False), "decoder_spatio_temporal_scaling": (True,)}
        | {"decoder_inject_noise": (False,) * 2, "upsample_residual": (True,), "upsample_factor": (1,)},
        unsupported=TEMB,
    ),
    "AutoencoderKLMochi": ModelClass(
        "frame",
        "genmo/mochi-1-preview/vae",
        lambda config: math.prod(config["spatial_expansions"]),
        {"encoder_block_out_channels": (32,) * 4, "decoder_block_out_channels": (32,) * 4, "latent_channels": 4}
        | {"layers_per_block": (1,) * 5},
    ),
    "AutoencoderKLMagvit": ModelClass(
        "frame",
        "alibaba-pai/EasyAnimateV5.1-7b-zh-diffusers/vae",
        by_levels("block_out_channels"),
        {"latent_channels": 4, "block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}
        | {
            f"{way}_block_types": (f"Spatial{way.title()}Block3D", f"SpatialTemporal{way.title()}Block3D")
            for way in ("down", "up")
        },
    ),
    "AutoencoderKLKVAEVideo": ModelClass(
        "frame",
        "kandinskylab/KVAE-3D-1.0/diffusers",
        by_levels("ch_mult"),
        {"ch": 32, "ch_mult": (1, 1), "num_res_blocks": 1, "z_channels": 4, "temporal_compress_times": 1},
        channels="z_channels",
        tiles=False,
    ),
}
"""By the name of the class, `_class_name` of a config."""


def import_class(name: str) -> type:
    """The class of diffusers; ValueError in one line where the installed packages lack it."""
    package = MODEL_CLASSES[name].package
    if package and importlib.util.find_spec(package) is None:
        raise ValueError(f"{name} needs the package {package}: pip install {package}")
    if not hasattr(diffusers, name):
        raise ValueError(f"the installed diffusers {diffusers.__version__} has no {name}: install a newer one")
    return getattr(diffusers, name)


def defaults_of(name: str) -> dict[str, Any]:
    """What the constructor of a class takes, with its defaults; those without one are None."""
    parameters = list(inspect.signature(import_class(name).__init__).parameters.values())[1:]
    return {each.name: None if each.default is each.empty else each.default for each in parameters}


UNSEEN = (
    *("act_fn", "decoder_act_fns", "decoder_conv_act_fn", "upsample_fn"),
    *("norm_num_groups", "norm_eps", "resnet_norm_eps", "spatial_group_norm"),
    *("attention_head_dim", "decoder_num_attention_heads", "encoder_input_size"),
    *("downsample_match_channel", "upsample_match_channel", "encoder_out_shortcut", "decoder_in_shortcut"),
    *("upsample_residual", "encoder_causal", "decoder_causal", "patch_type"),
    *("encoder_spatial_padding_mode", "decoder_spatial_padding_mode"),
)
"""Entries of configs that change latents or images, and neither name nor shape of a weight."""
NARROW_GROUPS = 8  # of the packaged autoencoders, whose widths 32 groups do not divide


def unseen_entries(name: str, config: Config) -> dict[str, Any]:
    """Those of a config of a class that differ from its defaults, sorted; lists as JSON has them.

    The default number of groups is 32 where that divides all widths, as published ones, else 8.
    """
    defaults = defaults_of(name)
    widths = [width for key, value in config.items() if key.endswith("block_out_channels") for width in value or ()]
    groups = defaults.get("norm_num_groups")
    if groups and any(width % groups for width in widths):
        defaults["norm_num_groups"] = NARROW_GROUPS
    known = {entry: json.dumps(config[entry]) for entry in sorted(UNSEEN) if entry in config and entry in defaults}
    return {entry: json.loads(value) for entry, value in known.items() if value != json.dumps(defaults[entry])}

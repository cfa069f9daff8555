"""Published architectures by name, and models from configs.

The values are those of the published configs (latent-diffusion, taming-transformers, diffusers). A family has no
`scaling_factor` where none was published: its normalization is unknown until it is estimated.
"""

from collections.abc import Mapping
from typing import Any

from diffusers import ModelMixin

from eqvae.autoencoders.configs import require_config
from eqvae.autoencoders.constants import LISTS
from eqvae.autoencoders.padding import set_padding_mode
from eqvae.autoencoders.registry import MODEL_CLASSES, defaults_of, import_class


def _levels(channels: list[int], attention: bool) -> dict:
    """Blocks of each resolution, the lowest with attention (`attn_resolutions: [16]` of a 256-pixel f16 model)."""
    down = ["DownEncoderBlock2D"] * len(channels)
    up = ["UpDecoderBlock2D"] * len(channels)
    if attention:
        down[-1], up[0] = "AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"
    return {"block_out_channels": channels, "down_block_types": down, "up_block_types": up, "layers_per_block": 2}


F8 = _levels([128, 256, 512, 512], attention=False)
F16 = _levels([128, 128, 256, 256, 512], attention=True)
KL = {"_class_name": "AutoencoderKL"}
VQ_F16 = {"_class_name": "VQModel"} | F16 | {"latent_channels": 256, "vq_embed_dim": 256, "sample_size": 256}

FAMILIES: dict[str, dict] = {
    "sd": KL | F8 | {"latent_channels": 4, "sample_size": 256, "scaling_factor": 0.18215},
    "sdxl": KL | F8 | {"latent_channels": 4, "sample_size": 1024, "scaling_factor": 0.13025},
    "sd3": KL
    | F8
    | {"latent_channels": 16, "sample_size": 1024, "scaling_factor": 1.5305, "shift_factor": 0.0609}
    | {"use_quant_conv": False, "use_post_quant_conv": False},
    "flux1": KL
    | F8
    | {"latent_channels": 16, "sample_size": 1024, "scaling_factor": 0.3611, "shift_factor": 0.1159}
    | {"use_quant_conv": False, "use_post_quant_conv": False},
    "sd-vae-16": KL | F16 | {"latent_channels": 16, "sample_size": 256},
    "taming-1024": VQ_F16 | {"num_vq_embeddings": 1024},
    "taming-16384": VQ_F16 | {"num_vq_embeddings": 16384},
    "flux2": {"_class_name": "AutoencoderKLFlux2"},
    "taesd": {"_class_name": "AutoencoderTiny"},
    "taesd3": {"_class_name": "AutoencoderTiny", "latent_channels": 16, "scaling_factor": 1.0, "shift_factor": 0.0},
    "qwen-image": {"_class_name": "AutoencoderKLQwenImage"},
    "wan-2.1": {"_class_name": "AutoencoderKLWan"},
    "hunyuan-video": {"_class_name": "AutoencoderKLHunyuanVideo"},
    "mochi-1": {"_class_name": "AutoencoderKLMochi"},
}
"""A class alone stands for the defaults of diffusers, which are its published config."""
LATENT_CONSTANTS = ("scaling_factor", "shift_factor", "sample_size")


def expand_family(config: Mapping) -> dict:
    """A config whose `family` is replaced by that family's entries; the other entries override them.

    Raises:
        ValueError: naming the families, if there is none of this name.
    """
    config = dict(config)
    if "family" not in config:
        return config
    name = config.pop("family")
    if name not in FAMILIES:
        raise ValueError(f"autoencoder family {name!r} is unknown: use one of {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    defaults = defaults_of(family["_class_name"]) if set(family) == {"_class_name"} else {}
    return defaults | family | config


def published_constants(architecture: Mapping, given: Mapping) -> dict:
    """Scaling, shift and image size of the family with this architecture; a scaling of None where none is known.

    Codebooks count as known, with 1: generators read indices.

    SD and SDXL share an architecture, and so do SD3 and FLUX.1: weights alone cannot tell them apart.

    Args:
        architecture: as `infer_architecture` reads it off weights.
        given: what is known beside it. A scaling or shift tells which family it is, or that it is another.

    Raises:
        ValueError: naming the candidates, where several are left and nothing tells which.
    """
    candidates = [
        name
        for name, family in FAMILIES.items()
        if all(architecture.get(key) == value for key, value in family.items() if key not in LATENT_CONSTANTS)
    ]
    told = [
        name
        for name in candidates
        if all(given.get(key, FAMILIES[name].get(key)) == FAMILIES[name].get(key) for key in LATENT_CONSTANTS[:2])
    ]
    unknown = {"scaling_factor": 1.0 if "num_vq_embeddings" in architecture else None, "sample_size": 256}
    if len(told) == 1:
        return unknown | {key: FAMILIES[told[0]][key] for key in LATENT_CONSTANTS if key in FAMILIES[told[0]]}
    if not candidates or "scaling_factor" in given:
        return unknown
    listed = " or ".join(f"{name} (scale {FAMILIES[name]['scaling_factor']})" for name in candidates)
    raise ValueError(f"it may be {listed}, of one architecture: say which, as --family or config: {{family: NAME}}")


def create_model(config: Mapping) -> ModelMixin:
    """A diffusers autoencoder of this config, with the initial weights of diffusers.

    Constants of the normalization that a config leaves out are 0 and 1: those that diffusers has as defaults are of
    published weights.

    Args:
        config: what the class named by `_class_name` takes (without that entry: `VQModel` where the config has a
            codebook, `num_vq_embeddings`, else `AutoencoderKL`), or a `family` and what differs from it; and
            `padding_mode`.

    Raises:
        ValueError: in one line, naming an unknown or impossible entry.
    """
    config = expand_family(config)
    name = class_of(config, "autoencoder config")
    config.pop("_class_name", None)
    padding_mode = config.pop("padding_mode", None)
    defaults = defaults_of(name)
    if unknown := set(config) - set(defaults):
        raise ValueError(f"autoencoder config has unknown keys {sorted(unknown)}: see diffusers.{name}")
    require_config(config | {"_class_name": name}, "autoencoder config")
    try:
        model = import_class(name)(**_neutral_constants(name, defaults | config) | config)
    except (ValueError, TypeError, IndexError, RuntimeError, KeyError, ZeroDivisionError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"autoencoder config is impossible: {reason}") from None
    set_padding_mode(model, padding_mode)
    return model


def _neutral_constants(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Of random weights; diffusers' defaults are those of Stable Diffusion, Wan and others."""
    constants: dict[str, Any] = {"scaling_factor": 1.0} if "scaling_factor" in config else {}
    channels = config[MODEL_CLASSES[name].channels]
    for each, value in zip(LISTS, (0.0, 1.0), strict=True):
        if config.get(each) is not None:
            constants[each] = [value] * channels
    return constants


def class_of(config: object, where: str) -> str:
    """The name of a config's diffusers class; ValueError naming `where` it came from, if it is no autoencoder's."""
    if not isinstance(config, Mapping):
        raise ValueError(f"{where} is no config but a {type(config).__name__}")
    name = config.get("_class_name", "VQModel" if "num_vq_embeddings" in config else "AutoencoderKL")
    if not isinstance(name, str) or name not in MODEL_CLASSES:
        raise ValueError(f"{where} is of class {name!r:.60}, which is no autoencoder here: docs/families.md lists them")
    import_class(name)
    for entry, reason in MODEL_CLASSES[name].unsupported.items():
        if config.get(entry):
            raise ValueError(f"{where} has {entry} {config[entry]!r:.40}: {reason}, which images do not have")
    return name

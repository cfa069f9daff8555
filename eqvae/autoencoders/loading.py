"""The one way to an autoencoder, wherever it lies."""

import inspect
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from diffusers import AutoencoderKL, VQModel

from eqvae.autoencoders.kl import KLAutoencoder
from eqvae.autoencoders.normalization import Normalization
from eqvae.autoencoders.vq import VQAutoencoder

PACKAGED = files("eqvae.autoencoders") / "pretrained"
KINDS = {"AutoencoderKL": (AutoencoderKL, KLAutoencoder), "VQModel": (VQModel, VQAutoencoder)}


def load_autoencoder(source: str | Path | Mapping, seed: int = 0) -> KLAutoencoder | VQAutoencoder:
    """An autoencoder with its normalization.

    Args:
        source: a diffusers folder (with `config.json` and safetensors weights, and `normalization.json` where it was
            exported here), a packaged name such as "shapes-f4c8", a hub id such as "stabilityai/sd-vae-ft-ema", or a
            mapping: the configuration of a `diffusers.AutoencoderKL`, or of a `diffusers.VQModel` (told by
            `_class_name` or by `num_vq_embeddings`), that starts from random weights.
        seed: of the random weights.

    Raises:
        ValueError: one line naming the source and what to do.
    """
    if isinstance(source, Mapping):
        return _random_autoencoder(dict(source), seed)
    if not str(source):
        return _load_hub("")  # which refuses it; as a path it would be the current folder
    path = Path(str(source))
    packaged = Path(str(PACKAGED / str(source)))
    if path.is_dir():
        return _load_folder(path)
    if packaged.is_dir():
        return _load_folder(packaged)
    if path.exists():
        raise ValueError(f"autoencoder {source} is a file: give the diffusers folder that holds config.json")
    return _load_hub(str(source))


def _kind(config: Mapping, where: str) -> tuple[type, type]:
    """The diffusers class and ours of a config: by `_class_name`, or VQ where it has a codebook."""
    name = config.get("_class_name", "VQModel" if "num_vq_embeddings" in config else "AutoencoderKL")
    if name not in KINDS:
        raise ValueError(f"{where} is of class {name!r}: only {' and '.join(KINDS)} are autoencoders here")
    return KINDS[name]


def _random_autoencoder(config: dict, seed: int) -> KLAutoencoder | VQAutoencoder:
    model_class, autoencoder_class = _kind(config, "autoencoder config")
    config.pop("_class_name", None)
    unknown = set(config) - set(inspect.signature(model_class.__init__).parameters)
    if unknown:
        raise ValueError(f"autoencoder config has unknown keys {sorted(unknown)}: see diffusers.{model_class.__name__}")
    if model_class is VQModel:
        config.setdefault("scaling_factor", 1.0)  # VQ-GAN publishes none; diffusers' default is Stable Diffusion's
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = autoencoder_class(model_class(**config))
    if model_class is AutoencoderKL:
        autoencoder.narrow_posterior()
    return autoencoder


def _load_folder(folder: Path) -> KLAutoencoder | VQAutoencoder:
    if not (folder / "config.json").is_file():
        raise ValueError(f"autoencoder folder {folder} has no config.json: is it a diffusers autoencoder folder?")
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"autoencoder folder {folder} cannot be read: config.json: {error}") from None
    model_class, autoencoder_class = _kind(config, f"autoencoder folder {folder}")
    try:
        model = model_class.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False).float()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"autoencoder folder {folder} cannot be read: {reason}") from None
    return autoencoder_class(model, Normalization.load(folder))


def _load_hub(name: str) -> KLAutoencoder | VQAutoencoder:
    if name.count("/") > 1 or name.startswith((".", "/")) or not name:
        known = ", ".join(sorted(entry.name for entry in PACKAGED.iterdir() if entry.is_dir()))
        raise ValueError(
            f"no autoencoder at {name!r}: give a folder, a hub id (owner/name) or a packaged one ({known})"
        )
    try:
        model_class, autoencoder_class = _kind(AutoencoderKL.load_config(name), f"autoencoder {name!r}")
        model = model_class.from_pretrained(name).float()
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"autoencoder {name!r} is no local folder and the hub did not give it: {reason}") from None
    return autoencoder_class(model)

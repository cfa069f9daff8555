"""The one way to an autoencoder, wherever it lies."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from diffusers import AutoencoderKL

from eqvae.autoencoders.kl import KLAutoencoder, random_kl_autoencoder
from eqvae.autoencoders.normalization import Normalization

PACKAGED = files("eqvae.autoencoders") / "pretrained"


def load_autoencoder(source: str | Path | Mapping, seed: int = 0) -> KLAutoencoder:
    """An autoencoder with its normalization.

    Args:
        source: a diffusers folder (with `config.json` and safetensors weights, and `normalization.json` where it was
            exported here), a packaged name such as "shapes-f4c8", a hub id such as "stabilityai/sd-vae-ft-ema", or a
            mapping: the configuration of a `diffusers.AutoencoderKL` that starts from random weights.
        seed: of the random weights.

    Raises:
        ValueError: one line naming the source and what to do.
    """
    if isinstance(source, Mapping):
        return random_kl_autoencoder(dict(source), seed)
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


def _load_folder(folder: Path) -> KLAutoencoder:
    if not (folder / "config.json").is_file():
        raise ValueError(f"autoencoder folder {folder} has no config.json: is it a diffusers AutoencoderKL folder?")
    try:
        model = AutoencoderKL.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False).float()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"autoencoder folder {folder} cannot be read: {reason}") from None
    return KLAutoencoder(model, Normalization.load(folder))


def _load_hub(name: str) -> KLAutoencoder:
    if name.count("/") > 1 or name.startswith((".", "/")) or not name:
        known = ", ".join(sorted(entry.name for entry in PACKAGED.iterdir() if entry.is_dir()))
        raise ValueError(
            f"no autoencoder at {name!r}: give a folder, a hub id (owner/name) or a packaged one ({known})"
        )
    try:
        model = AutoencoderKL.from_pretrained(name).float()
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"autoencoder {name!r} is no local folder and the hub did not give it: {reason}") from None
    return KLAutoencoder(model)

"""The one way to an autoencoder, wherever it lies."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from eqvae.autoencoders.base import Autoencoder
from eqvae.autoencoders.configs import require_config, require_weights_for
from eqvae.autoencoders.exporting import RECORD, read_origin, verify_files
from eqvae.autoencoders.families import class_of, create_model
from eqvae.autoencoders.frames import FrameAutoencoder, PointFrameAutoencoder
from eqvae.autoencoders.kl import KLAutoencoder
from eqvae.autoencoders.normalization import Normalization
from eqvae.autoencoders.packed import PackedAutoencoder
from eqvae.autoencoders.padding import known_to_config, set_padding_mode
from eqvae.autoencoders.places import PACKAGED, is_hub_id
from eqvae.autoencoders.points import FeatureAutoencoder, PointAutoencoder
from eqvae.autoencoders.registry import MODEL_CLASSES, import_class
from eqvae.autoencoders.single_files import load_single_file
from eqvae.autoencoders.vq import VQAutoencoder
from eqvae.network import quick_hub

INTERFACES: dict[str, type[Autoencoder]] = {
    "kl": KLAutoencoder,
    "codes": VQAutoencoder,
    "points": PointAutoencoder,
    "features": FeatureAutoencoder,
    "packed": PackedAutoencoder,
    "frame": FrameAutoencoder,
    "frame-points": PointFrameAutoencoder,
}
"""How a class of diffusers is used, by what its entry in `eqvae.autoencoders.registry` says."""
WEIGHT_FILE = re.compile(
    r"diffusion_pytorch_model(?:\.(?P<variant>\w+))??(?:-\d+-of-\d+)?\.(?P<format>safetensors|bin)"
)
SOURCE_KEYS = {"source", "config", "family", "padding_mode"}


def load_autoencoder(
    source: str | Path | Mapping, seed: int = 0, config: Mapping | None = None, padding_mode: str | None = None
) -> Autoencoder:
    """An autoencoder with its normalization.

    Args:
        source: one of

            - a diffusers folder (`config.json`, weights as safetensors or else `.bin`, where there is nothing else of a
              variant such as fp16, `normalization.json` where it was exported here),
            - a single file, `.safetensors`, `.ckpt` or `.pt`, in the key layout of diffusers, of latent-diffusion or of
              taming-transformers, the autoencoder alone or inside a whole generator,
            - a packaged name such as "shapes-f4c8",
            - a hub id such as "stabilityai/sd-vae-ft-ema", with a subfolder where it has one ("owner/name/vae"),
            - a mapping that starts from random weights: the configuration of a class of diffusers
              (`eqvae.autoencoders.registry`) with `_class_name`, by default that of `diffusers.AutoencoderKL` or, with
              a codebook, `diffusers.VQModel`; or `family` (see `eqvae.autoencoders.families`) and what differs from it,
            - a mapping with the key `source`, one of the above, and perhaps `config`, `family` (of `config`) and
              `padding_mode`.
        seed: of the random weights.
        config: for a single file: entries of the diffusers config, or `family`, for what shapes do not tell: whose
            scaling factor, and groups of the normalization layers. A file that several families fit needs one.
        padding_mode: "zeros" or "reflect", of all convolutions that pad; None takes what was saved, else zeros.

    Raises:
        ValueError: one line naming the source and what to do.
    """
    if isinstance(source, Mapping) and "source" in source:
        if unknown := set(source) - SOURCE_KEYS:
            known = "config, family, padding_mode"
            raise ValueError(f"autoencoder has unknown keys {sorted(unknown)} beside source: use {known}")
        given = {"config": config, "padding_mode": padding_mode} | dict(source)
        if family := given.pop("family", None):
            given["config"] = {**(given["config"] or {}), "family": family}
        return load_autoencoder(**given, seed=seed)
    is_file = not isinstance(source, Mapping) and bool(str(source)) and Path(source).is_file()
    if config and not is_file:
        raise ValueError(f"autoencoder {source}: config is for single files, this source has its own")
    if isinstance(source, Mapping):
        autoencoder = _random_autoencoder(source, seed)
    elif is_file:
        autoencoder = _read_file(Path(source), config or {})
    else:
        autoencoder = _load_pretrained(str(source))
    _require_finite(autoencoder.model, source)
    set_padding_mode(autoencoder.model, padding_mode)
    autoencoder.source = _plain_source(source, config, padding_mode)
    return autoencoder


def _require_finite(model: ModelMixin, source: str | Path | Mapping) -> None:
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise ValueError(f"autoencoder {source}: {name} is not finite: give another")


def source_file(source: str | Path | Mapping) -> Path | None:
    """The single file that `load_autoencoder` reads for a source; None where it is a folder, a hub id or a config."""
    name = source.get("source") if isinstance(source, Mapping) else source
    return Path(name) if name and Path(name).is_file() else None


def _plain_source(source: str | Path | Mapping, config: Mapping | None, padding_mode: str | None) -> str | dict:
    """Plain values from which `load_autoencoder` makes it once more; of random weights with the same seed."""
    source = dict(source) if isinstance(source, Mapping) else str(source)
    beside = {"config": dict(config) if config else None, "padding_mode": padding_mode}
    beside = {name: value for name, value in beside.items() if value}
    return {"source": source} | beside if beside else source


def _wrap(
    model: ModelMixin, normalization: Normalization | None = None, where: str = "autoencoder config"
) -> Autoencoder:
    interface = INTERFACES[MODEL_CLASSES[type(model).__name__].interface]
    try:
        return interface(model, normalization)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _read_file(path: Path, config: Mapping) -> Autoencoder:
    model, normalization, is_known = load_single_file(path, config)
    autoencoder = _wrap(model, normalization, where=f"file {path}")
    if not is_known:
        autoencoder.normalization = None
    return autoencoder


def _random_autoencoder(config: Mapping, seed: int) -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = _wrap(create_model(config))
    if isinstance(autoencoder, KLAutoencoder):
        autoencoder.narrow_posterior()
    return autoencoder


def _load_pretrained(name: str) -> Autoencoder:
    """From a folder, a packaged one, or the hub; an empty name is none of them (as a path: the current folder)."""
    packaged = Path(str(PACKAGED / name))
    folder = next((path for path in (Path(name), packaged) if name and path.is_dir()), None)
    return _load_hub(name) if folder is None else _load_folder(folder)


def _load_folder(folder: Path) -> Autoencoder:
    if not (folder / "config.json").is_file():
        inner = next((entry.name for entry in sorted(folder.glob("*vae")) if (entry / "config.json").is_file()), None)
        hint = f"give its {inner} folder" if inner else "is it a diffusers autoencoder folder?"
        raise ValueError(f"autoencoder folder {folder} has no config.json: {hint}")
    verify_files(folder)
    model = _from_pretrained(folder, f"autoencoder folder {folder} cannot be read", **_weight_files(folder))
    return _wrap_export(model, folder, f"autoencoder folder {folder}")


def _weight_files(folder: Path) -> dict[str, Any]:
    """Which files diffusers reads: a variant such as fp16 where nothing else lies, and safetensors before pickles."""
    found = [match for path in folder.iterdir() if (match := WEIGHT_FILE.fullmatch(path.name))]
    if not found:
        return {"use_safetensors": True}
    best = min(found, key=lambda match: (match["variant"] or "", match["format"] != "safetensors"))
    return {"use_safetensors": best["format"] == "safetensors", "variant": best["variant"]}


def _wrap_export(model: ModelMixin, folder: Path, where: str) -> Autoencoder:
    """With what the record of a folder says, where there is one."""
    autoencoder = _wrap(model, Normalization.load(folder), where)
    autoencoder.origin = read_origin(folder)
    return autoencoder


def _load_hub(name: str) -> Autoencoder:
    known = sorted(entry.name for entry in PACKAGED.iterdir() if entry.is_dir())
    hint = f"a folder, a file, a hub id (owner/name or owner/name/subfolder) or a packaged one ({', '.join(known)})"
    if not is_hub_id(name):
        alike = _nearest_path(name) or next(iter(get_close_matches(name, known, n=1)), None)
        raise ValueError(f"no autoencoder at {name!r}: " + (f"did you mean {alike}?" if alike else f"give {hint}"))
    repository, subfolder = "/".join(name.split("/")[:2]), "/".join(name.split("/")[2:]) or None
    options = "model.init_args.autoencoder, --autoencoder, or start.autoencoder of a sweep"
    with quick_hub() as answers:
        hub = "the hub" if answers else "the hub, which does not answer, nor from its cache"
        problem = f"autoencoder {name!r} cannot be had from {hub}: give a local folder or file ({options})"
        model = _from_pretrained(repository, problem, subfolder=subfolder)
        try:
            path = Path(hf_hub_download(repository, RECORD, subfolder=subfolder))
        except EntryNotFoundError:  # most autoencoders on the hub were not exported here
            return _wrap(model, where=f"autoencoder {name!r}")
    return _wrap_export(model, path.parent, f"autoencoder {name!r}")


def _nearest_path(name: str) -> str | None:
    """The path that is here and most like one that is not; None where nothing is like it."""
    path = Path(name)
    parent = next((folder for folder in path.parents if folder.exists()), path)
    wanted, *rest = path.relative_to(parent).parts or (".",)
    entries = [entry.name for entry in parent.iterdir()] if parent.is_dir() and os.access(parent, os.R_OK) else []
    for alike in get_close_matches(wanted, entries, n=3):
        if (found := Path(parent, alike, *rest)).exists():
            return str(found)
    return None


def _from_pretrained(name: str | Path, problem: str, subfolder: str | None = None, **options: Any) -> ModelMixin:
    """diffusers' model in float32; ValueError that begins with `problem`, if it cannot be loaded whole.

    Missing weights are one reason: diffusers would leave them random.
    """
    options = {"subfolder": subfolder, "low_cpu_mem_usage": False, "output_loading_info": True} | options
    try:
        config = AutoencoderKL.load_config(name, subfolder=subfolder)
        model_class: Any = import_class(class_of(config, "it"))
        assert isinstance(config, Mapping), "what is none has no class"
        require_config(config, "its config")
        if isinstance(name, Path):
            require_weights_for(config, name, "it")
        with known_to_config():
            loaded = model_class.from_pretrained(name, **options)
        assert isinstance(loaded, tuple), "output_loading_info asks for a pair"
        model, info = loaded
        for kind in ("missing_keys", "unexpected_keys"):
            if info[kind]:
                raise ValueError(f"{kind.replace('_', ' ')} {', '.join(sorted(info[kind])[:5])}")
    except (OSError, RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).strip().splitlines()]
        reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
        raise ValueError(f"{problem}: {reason}") from None
    return model.float()

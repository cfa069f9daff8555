"""Sizes of a backbone that follow the latent cache: `auto` in a config, numbers in whatever is made of it."""

from collections.abc import Mapping
from typing import Any

from dit.backbones.patches import comparable_patch, published_pixels
from eqvae.latents import LatentSpec, open_cache
from eqvae.precision import AUTO


def fitting_patch(spec: LatentSpec, backbone: Mapping[str, Any]) -> int:
    """What `patch_size: auto` of a backbone's arguments stands for."""
    return comparable_patch(spec.shape[-1], spec.downsampling_factor, published_pixels(backbone.get("name")))


def follow_cache(model: Any, data: Any) -> str | None:
    """Replace `auto` among a backbone's arguments, in place, by what the latent cache has.

    Args:
        model: config of a `GeneratorModule`: `init_args.backbone.init_args`.
        data: config of a `LatentDataModule`: `init_args.cache`.

    Returns:
        A line that says what was chosen; None where nothing was asked for.

    Raises:
        ValueError: naming an argument that no cache of this kind has; or if there is no such cache.
    """
    backbone = _arguments(_arguments(model).get("backbone"))
    asked = [name for name, value in backbone.items() if value == AUTO]
    if not asked:
        return None
    folder = _arguments(data).get("cache")
    if folder is None:
        raise ValueError(f"backbone.{asked[0]} auto follows a latent cache: give data.init_args.cache, or a number")
    cache = open_cache(folder, verify=False)
    spec, found = cache.spec, dict(cache.spec.backbone_config) | {"num_classes": cache.num_classes}
    if "patch_size" in asked and cache.spec.kind == "latents":
        found["patch_size"] = fitting_patch(spec, backbone)
    for name in asked:
        if name not in found:
            raise ValueError(f"backbone.{name} auto: the cache {folder} does not tell it; give a value")
        backbone[name] = found[name]
    line = f"backbone as the cache {folder}: " + ", ".join(f"{name} {found[name]}" for name in asked)
    if "patch_size" not in asked:
        return line
    side, pixels = spec.shape[-1], published_pixels(backbone.get("name"))
    tokens, published = (side // found["patch_size"]) ** 2, round((side * spec.downsampling_factor / pixels) ** 2)
    return f"{line}: {tokens} tokens (one for every {pixels} x {pixels} pixels, as published, would be {published})"


def _arguments(config: Any) -> Any:
    """`init_args` of a class in a config; empty where there are none."""
    arguments = config.get("init_args") if hasattr(config, "get") else None
    return {} if arguments is None else arguments

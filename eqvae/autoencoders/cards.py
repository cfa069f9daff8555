"""What the model card of an autoencoder says: base model, recipe, data, and how its latents are normalized.

All of it comes from the record of the export: `start` (what was trained, see `places.public_source`), `num_steps`,
`recipe` and `data` of its origin. What an older record lacks is left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eqvae.autoencoders.constants import from_constants
from eqvae.autoencoders.places import name_of, public_source
from eqvae.cards import PLACEHOLDER, CardDetails, last_name, render_card

RECIPE = {
    "config": "config",
    "trained": "trained",
    "regularizers": "regularizers",
    "loss": "loss",
    "global_batch_size": "images per step",
    "learning_rate": "learning rate",
    "seed": "seed",
}
"""Entries of a record's recipe, and what a card calls them."""
DATA = {"name": "training images", "num_images": "number", "image_size": "side in pixels"}
EXACTLY = "(z - shift) * scale, per channel, of normalization.json"
KINDS = {
    "hub": "`{}`",
    "packaged": "`{}`, packaged with eqvae",
    "local": "`{}`, which is not published",
    "scratch": "none: trained from scratch",
}
PADDED = """for module in autoencoder.modules():  # diffusers ignores this entry of config.json
    if isinstance(module, torch.nn.Conv2d) and any(module.padding):
        module.padding_mode = "{}\""""
TASK = ("image-to-image", "Image reconstruction and latent space")


def render_autoencoder_card(
    model_class: str,
    constants: Mapping[str, Any],
    record: Mapping[str, Any],
    details: CardDetails,
    of_base: bool = False,
    padding_mode: str = "zeros",
) -> str:
    """The card of an autoencoder folder.

    Args:
        model_class: of diffusers.
        constants: of the folder's config, see `eqvae.autoencoders.constants`.
        record: normalization and origin, as `normalization.json` has them.
        details: what the record does not know.
        of_base: whether the constants are the base model's, not those of the record's normalization.
        padding_mode: of its convolutions, which diffusers alone does not set.
    """
    origin = public_origin(record.get("origin") or {})
    recipe, start = origin.get("recipe") or {}, origin.get("start")
    untrained = name_of(start) if start and "num_steps" not in origin else None
    title = last_name(details.repository or recipe.get("config") or untrained or "autoencoder")
    place = details.repository or PLACEHOLDER
    usage = f'from diffusers import {model_class}\n\nautoencoder = {model_class}.from_pretrained("{place}")'
    if padding_mode != "zeros":
        usage = f"import torch\n{usage}\n{PADDED.format(padding_mode)}"
    return render_card(
        title,
        _summary(model_class, origin),
        usage,
        {
            "Base model": _base(start, details),
            "Training": _training(origin),
            "Latents": _latents(constants, record, of_base) | _padding(padding_mode),
        },
        details,
        TASK,
        base_model=details.base_model or (hub_repository(start) if start else None),
        tags=["diffusers", "autoencoder", *_methods(recipe), "eqvae"],
    )


def public_origin(origin: Mapping[str, Any]) -> dict[str, Any]:
    """An origin as others may read it; records of before name paths."""
    start = origin.get("start")
    if not start or "kind" in start:
        return dict(origin)
    return {**origin, "start": {**start, **public_source(start["source"])}}


def hub_repository(start: Mapping[str, Any]) -> str | None:
    """The repository of a source on the hub, without a subfolder; None of any other."""
    return "/".join(name_of(start).split("/")[:2]) if start["kind"] == "hub" else None


def describe_start(start: Mapping[str, Any] | None) -> str | None:
    """A source in words; None where it is unknown."""
    return KINDS[start["kind"]].format(name_of(start)) if start else None


def _summary(model_class: str, origin: Mapping[str, Any]) -> str:
    steps, methods = origin.get("num_steps"), _methods(origin.get("recipe") or {})
    trained = "" if steps is None else f", trained for {steps:,} steps"
    asked = f" with {', '.join(methods)} asked of its latents" if methods else ""
    return f"An image autoencoder ({model_class} of diffusers){trained}{asked}."


def _methods(recipe: Mapping[str, Any]) -> list[str]:
    """Names of the regularizers, which are told in words as `NAME: settings`."""
    return [text.partition(":")[0] for text in recipe.get("regularizers") or ()]


def _base(start: Mapping[str, Any] | None, details: CardDetails) -> dict[str, object]:
    given = f"`{details.base_model}`" if details.base_model else None
    return {"started from": given or describe_start(start)}


def _training(origin: Mapping[str, Any]) -> dict[str, object]:
    recipe, data = origin.get("recipe") or {}, origin.get("data") or {}
    rows = {shown: _words(recipe.get(name)) for name, shown in RECIPE.items()}
    return rows | {"steps": origin.get("num_steps")} | {shown: data.get(name) for name, shown in DATA.items()}


def _words(value: object) -> object:
    """A list that is empty says so."""
    return "none" if value == [] else value


def _latents(constants: Mapping[str, Any], record: Mapping[str, Any], of_base: bool) -> dict[str, object]:
    """How latents are normalized: by the constants where they mean the record's normalization, else by the record."""
    scalars = "(z - shift_factor) * scaling_factor" if constants.get("shift_factor") else "z * scaling_factor"
    lists = "(z - latents_mean) * scaling_factor / latents_std" if constants.get("latents_mean") else None
    exact = lists or scalars if of_base or _mean_the_same(constants, record) else EXACTLY
    has_scalars = constants.get("scaling_factor") is not None
    return {
        "normalized latents": f"`{exact}`" if "method" in record else "unknown: not estimated yet",
        "with scalars alone, nearly": f"`{scalars}`" if exact != scalars and has_scalars else None,
        **{f"`{name}`": value for name, value in constants.items()},
        "constants are of": "the base model, to fit its pipelines" if of_base else "these latents",
        "`normalization.json`": record.get("method"),
    }


def _mean_the_same(constants: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether constants of a config say what the record's normalization does, in every channel."""
    meant = from_constants(constants)
    if meant is None or "scale" not in record:
        return False
    pairs = [*_pairs(meant.shift, record["shift"]), *_pairs(meant.scale, record["scale"])]
    return all(math.isclose(own, other, rel_tol=1e-6, abs_tol=1e-9) for own, other in pairs)


def _pairs(first: Sequence[float], second: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Number by number; a single one is that of all channels."""
    length = max(len(first), len(second))
    yield from zip(*(list(each) * (length // len(each)) for each in (first, second)), strict=True)


def _padding(mode: str) -> dict[str, object]:
    return {"padding": None if mode == "zeros" else f"`{mode}`, set as above: diffusers alone pads with zeros"}

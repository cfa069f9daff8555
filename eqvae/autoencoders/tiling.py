"""Encoding in tiles, as diffusers does it: the memory of one tile, and latents that blend where tiles overlap.

Classes of diffusers name the side of a tile in three ways; what they have in common is here.
"""

import inspect

from diffusers import ModelMixin

from eqvae.autoencoders.registry import MODEL_CLASSES

OVERLAP_FACTORS = ("tile_overlap_factor", "tile_overlap_factor_height", "tile_overlap_factor_width")
OVERLAP = 4  # tiles overlap by 1 / 4 of their side


def encode_in_tiles(model: ModelMixin, side: int, factor: int) -> None:
    """Encode images with a side of more than `side` pixels in square tiles of that side, which overlap by a quarter.

    Args:
        factor: image side over latent side.

    Raises:
        ValueError: for a class that has no tiles, or a side that does not make whole overlaps.
    """
    name = type(model).__name__
    if not hasattr(model, "use_tiling") or not MODEL_CLASSES[name].tiles:
        raise ValueError(f"tile_size {side}: {name} of diffusers encodes no tiles: set it to null")
    if side < 1 or side % (OVERLAP * factor):
        raise ValueError(f"tile_size {side} is no multiple of {OVERLAP * factor}, as {name} needs it for its overlaps")
    sizes = {"min_height": side, "min_width": side, "min_size": side}
    sizes |= dict.fromkeys(("stride_height", "stride_width"), side - side // OVERLAP)
    sizes |= dict.fromkeys(OVERLAP_FACTORS, 1 / OVERLAP)
    known = inspect.signature(model.enable_tiling).parameters
    sizes = {name if name in OVERLAP_FACTORS else f"tile_sample_{name}": each for name, each in sizes.items()}
    model.enable_tiling(**{name: each for name, each in sizes.items() if name in known})
    attributes = {"tile_sample_min_size": side, "tile_latent_min_size": side // factor}
    attributes |= dict.fromkeys(("tile_latent_min_height", "tile_latent_min_width"), side // factor)
    for attribute, value in attributes.items():
        if hasattr(model, attribute):
            setattr(model, attribute, value)

"""The patch of a transformer that keeps its number of tokens where latents are larger or smaller."""

from dit.backbones.registry import LIGHTNING_SIZES, PUBLISHED

USUAL_PIXELS = 16  # of the image along a token's side: patch 2 at 1/8 (DiT, SiT), patch 1 at 1/16 (LightningDiT, RAE)
PIXELS = {f"LightningDiT-{size}/1": USUAL_PIXELS for size, patch in LIGHTNING_SIZES if patch == 1}
PUBLISHED_FACTOR = 8  # of the autoencoder that all others were published with
LEAST_SIDE = 4  # of the token grid, for images that are small beside published ones


def published_pixels(name: str | None = None) -> int:
    """Pixels of the image along the side of a token of a published size such as "SiT-XL/2", else the usual ones."""
    if name in PIXELS or name not in PUBLISHED:
        return USUAL_PIXELS
    return PUBLISHED_FACTOR * PUBLISHED[name][1]["patch_size"]


def comparable_patch(input_size: int, downsampling_factor: int, pixels: int = USUAL_PIXELS) -> int:
    """The patch that makes about as many tokens of an image as the published model does on its own latents.

    Of the patches that divide `input_size`, the one whose token grid has the side nearest, as a ratio, to image side /
    `pixels`; of two equally near the smaller patch. For "/2" sizes that is 4 at 1/4, 2 at 1/8 and 1 at 1/16; at 1/32
    there is no smaller one than 1, which leaves a quarter of the tokens. Of small images at least 4 x 4 tokens are
    wanted, where the latents have as many.

    Args:
        input_size: side of the latents.
        downsampling_factor: image side over that.
        pixels: of the image along the side of a token, see `published_pixels`.
    """
    wanted = max(input_size * downsampling_factor / pixels, min(LEAST_SIDE, input_size))
    patches = [patch for patch in range(1, input_size + 1) if input_size % patch == 0]
    return min(patches, key=lambda patch: max(input_size / patch / wanted, wanted * patch / input_size))

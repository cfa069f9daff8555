"""How many images pass an autoencoder together while it is measured."""

MOST = 100
PIXELS_AT_ONCE = MOST * 128**2  # SD-VAE's widest tensors are then of 1.7 GB


def images_at_once(height: int, width: int, most: int = MOST) -> int:
    """So many of height x width pixels: `most` up to 128 x 128 pixels, fewer larger ones, one at least."""
    return max(1, min(most, PIXELS_AT_ONCE // (height * width)))

"""Images for people: grids, latents as colours, and an autoencoder under transformation."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from eqvae.autoencoders import Autoencoder
from eqvae.data.images import to_uint8
from eqvae.equivariance import SpatialTransform
from eqvae.files import write_atomically

GRID_COLUMNS = 10
SMALLEST_TILE = 64  # pixels; smaller images are enlarged by whole factors
PANEL_TILE = 120  # pixels about, of an image of a panel: two words fit above it
PANEL_GAP, TEXT_SIZE, LINE = 4, 13, 16  # pixels
PANEL_TRANSFORMS = {
    "half size": SpatialTransform((0.5, 0.5)),
    "turned 90°": SpatialTransform(quarter_turns=1),
}


def image_grid(images: Tensor, columns: int = GRID_COLUMNS) -> Tensor:
    """uint8 images [N, 3, H, W] side by side, uint8 [3, H', W']; small ones enlarged without smoothing."""
    tiles = enlarged(images, max(1, SMALLEST_TILE // images.shape[-1]))
    return make_grid(tiles, nrow=columns, padding=2, pad_value=255)


def to_pillow(image: Tensor) -> Image.Image:
    """A uint8 image [3, H, W] as one of Pillow's."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def save_png(image: Tensor, path: Path) -> None:
    """Write a uint8 image [3, H, W] as PNG, whole or not at all."""
    encoded = to_pillow(image)
    write_atomically(path, lambda file: encoded.save(file, format="PNG"))


class LatentColours:
    """The three main directions of a set of latents as red, green and blue, with one range for all.

    Args:
        latents: [N, C, h, w] from which directions and range are taken.
    """

    def __init__(self, latents: Tensor):
        points = latents.float().movedim(1, -1).flatten(0, -2)
        self.mean = points.mean(0)
        basis = torch.linalg.svd(points - self.mean, full_matrices=False).Vh[:3].T
        largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
        basis = basis * largest.sign()  # the library leaves signs open: the largest entry points up
        self.basis = F.pad(basis, (0, 3 - basis.shape[1]))  # [C, 3], also for one or two channels
        self.span = ((points - self.mean) @ self.basis).abs().quantile(0.98, dim=0).clamp_min(1e-6)

    def __call__(self, latents: Tensor) -> Tensor:
        """uint8 [N, 3, h, w]."""
        colours = (latents.float().movedim(1, -1) - self.mean) @ self.basis / self.span
        return to_uint8(colours.clamp(-1, 1).movedim(-1, 1))


def autoencoder_panels(autoencoders: dict[str, Autoencoder], images: Tensor) -> Tensor:
    """One `autoencoder_panel` below the other, under the names of the autoencoders; uint8 [3, H', W']."""
    return torch.cat([autoencoder_panel(each, images, name) for name, each in autoencoders.items()], dim=1)


@torch.no_grad()
def autoencoder_panel(autoencoder: Autoencoder, images: Tensor, title: str | None = None) -> Tensor:
    """One row per image x: it, its latents E(x), its reconstruction D(E(x)), and the same of each probe.

    For a probe T the latents of the transformed image stand beside the transformed latents (equal where the autoencoder
    is equivariant), and the transformed image beside what those decode to.

    Args:
        images: [N, 3, H, W] in [-1, 1].
        title: written above.

    Returns:
        uint8 [3, H', W'] with headings.
    """
    latents = autoencoder.posterior(images).mean
    colours, factor = LatentColours(latents), autoencoder.posterior_factor
    columns = {
        "image\nx": to_uint8(images),
        "latents E(x)\n(PCA)": enlarged(colours(latents), factor),
        "decoded\nD(E(x))": to_uint8(autoencoder.transformed_decode(latents).images),
    }
    for name, transform in PANEL_TRANSFORMS.items():
        transformed = transform(latents)
        columns[f"E(T x)\n{name}"] = enlarged(colours(autoencoder.posterior(transform(images)).mean), factor)
        columns[f"T E(x)\n{name}"] = enlarged(colours(transformed), factor)
        columns[f"T x\n{name}"] = to_uint8(transform(images))
        columns[f"D(T E(x))\n{name}"] = to_uint8(autoencoder.transformed_decode(transformed).images)
    return _draw_columns(columns, max(images.shape[-2:]), title)


def _draw_columns(columns: dict[str, Tensor], side: int, title: str | None) -> Tensor:
    """Images [N, 3, H, W] below their headings of two lines, N in a column of squares; the title above all."""
    factor = max(1, round(PANEL_TILE / side))
    tiles = torch.stack([framed(images.cpu(), side) for images in columns.values()], dim=1).flatten(0, 1)
    grid = make_grid(enlarged(tiles, factor), nrow=len(columns), padding=PANEL_GAP, pad_value=255)
    above = 0 if title is None else LINE + PANEL_GAP
    head = Image.new("RGB", (grid.shape[-1], above + 2 * LINE + PANEL_GAP), "white")
    draw, font = ImageDraw.Draw(head), ImageFont.load_default(TEXT_SIZE)
    if title is not None:
        draw.text((PANEL_GAP, PANEL_GAP), title, "black", ImageFont.load_default(TEXT_SIZE + 2), "la")
    for column, heading in enumerate(columns):
        middle = PANEL_GAP + (column + 0.5) * (side * factor + PANEL_GAP)
        for line, words in enumerate(heading.split("\n")):
            draw.text((middle, above + PANEL_GAP + line * LINE), words, "black", font, "ma")
    return torch.cat([torch.from_numpy(np.array(head)).permute(2, 0, 1), grid], dim=1)


def framed(image: Tensor, side: int) -> Tensor:
    """uint8 images [..., 3, H, W] in the middle of white squares of this side."""
    above, left = ((side - length) // 2 for length in image.shape[-2:])
    below, right = side - image.shape[-2] - above, side - image.shape[-1] - left
    return F.pad(image, (left, right, above, below), value=255)


def enlarged(images: Tensor, factor: int) -> Tensor:
    """Images [..., H, W] by a whole factor, without smoothing."""
    return images.repeat_interleave(factor, -1).repeat_interleave(factor, -2)

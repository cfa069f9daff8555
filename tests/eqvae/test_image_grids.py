"""Grids, PNG files and latents as colours."""

import numpy as np
import pytest
import torch
from PIL import Image

from eqvae.data.images import to_uint8
from eqvae.evaluation.image_grids import (
    PANEL_GAP,
    PANEL_TILE,
    LatentColours,
    autoencoder_panel,
    framed,
    image_grid,
    save_png,
)
from tests.eqvae.tiny import smooth_images, tiny_autoencoder


def test_grid_keeps_order_and_pixels(tmp_path):
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 64, 64) * 10
    grid = image_grid(images, columns=3)
    assert grid.shape == (3, 2 * 64 + 3 * 2, 3 * 64 + 4 * 2)
    corners = [grid[0, 2 + 66 * (i // 3), 2 + 66 * (i % 3)].item() for i in range(6)]
    assert corners[:5] == [0, 10, 20, 30, 40]
    assert grid[0, 0, 0] == 255
    save_png(grid, tmp_path / "deep" / "grid.png")
    with Image.open(tmp_path / "deep" / "grid.png") as image:
        np.testing.assert_array_equal(np.asarray(image), grid.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 2, 3, 16])
def test_latent_colours_share_basis_and_range(channels):
    latents = torch.randn(6, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    latents = latents * torch.arange(1.0, channels + 1)[None, :, None, None] + 5
    colours = LatentColours(latents)
    together = colours(latents)
    assert together.shape == (6, 3, 8, 8)
    assert together.dtype == torch.uint8
    assert torch.equal(colours(latents[2:4]), together[2:4])
    assert torch.equal(LatentColours(latents.flip(0))(latents), together)
    strongest = latents[:, -1].flatten() - latents[:, -1].mean()
    assert torch.corrcoef(torch.stack((together[:, 0].flatten().float(), strongest)))[0, 1] > 0.9


@pytest.mark.parametrize("side", [16, 32, 128])
def test_a_panel_has_a_row_per_image_below_its_headings(side):
    images = smooth_images(side)
    panel = autoencoder_panel(tiny_autoencoder(), images)
    factor = round(PANEL_TILE / side)
    tile = factor * side + PANEL_GAP
    height = len(images) * tile + PANEL_GAP
    assert panel.dtype == torch.uint8
    assert panel.shape[2] == 11 * tile + PANEL_GAP
    head, body = panel[:, :-height], panel[:, -height:]
    first = body[:, PANEL_GAP:tile:factor, PANEL_GAP:tile:factor]
    assert torch.equal(first, to_uint8(images[0])), "pixels as they are"
    for column in range(11):
        words = head[:, :, column * tile : (column + 1) * tile]
        assert words.min() == 0, "a heading above each column"
        assert bool((words[..., [0, -1]] == 255).all()), "that fits above it"
    assert torch.equal(panel, autoencoder_panel(tiny_autoencoder(), images))


def test_a_panel_of_images_that_are_no_squares():
    """Turned, they are as high as they were wide: each stands in a square."""
    images = smooth_images(32)
    for given in (images[:, :, :16], images[..., :16]):
        panel = autoencoder_panel(tiny_autoencoder(), given)
        assert panel.shape == autoencoder_panel(tiny_autoencoder(), images).shape
        factor = round(PANEL_TILE / 32)
        tile = factor * 32 + PANEL_GAP
        body = panel[:, -(len(images) * tile + PANEL_GAP) :]
        first = body[:, PANEL_GAP:tile:factor, PANEL_GAP:tile:factor]
        assert torch.equal(first, framed(to_uint8(given[0]), 32))


def test_a_title_stands_above_the_same_panel():
    plain = autoencoder_panel(tiny_autoencoder(), smooth_images(32))
    titled = autoencoder_panel(tiny_autoencoder(), smooth_images(32), "a name")
    above = titled.shape[1] - plain.shape[1]
    assert torch.equal(titled[:, above:], plain)
    assert titled[:, :above].min() == 0

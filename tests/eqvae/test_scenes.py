"""Procedural scenes: a function of (seed, index) at any resolution, full of detail, in classes one can tell apart."""

import numpy as np
import pytest
import torch

from eqvae.data import ImageSource, ScenesSource, ShapesSource, open_source, to_float
from eqvae.data.clutter import Pile
from eqvae.data.scenes import CLASS_NAMES, draw_scenes
from eqvae.data.textures import Draws, cell_uniform, cells, noise, rgb
from eqvae.evaluation.latents import high_frequency_share, radial_power_spectrum
from eqvae.randomness import keyed_uniform


def draws(count: int, columns: int = 100) -> Draws:
    return Draws(keyed_uniform(torch.arange(count), (columns,), seed=0, stream="test").numpy())


def frame(side: int, extent: float = 1.0):
    grid = extent * (((np.arange(side, dtype=np.float32) + 0.5) * 2 / side) - 1)
    return np.meshgrid(grid, -grid)


def test_scenes_depend_on_seed_and_index_alone():
    together = draw_scenes(3, list(range(30)), 32)
    assert torch.equal(together[17:18], draw_scenes(3, [17], 32))
    assert not torch.equal(together, draw_scenes(4, list(range(30)), 32))
    assert torch.equal(ScenesSource(30, 32, seed=3, num_threads=3).images, together)


def test_another_resolution_shows_the_same_scene():
    small = draw_scenes(3, list(range(30)), 32).float()
    shrunk = torch.nn.functional.avg_pool2d(draw_scenes(3, list(range(30)), 64).float(), 2)
    residual = (shrunk - small).square().mean((1, 2, 3))
    assert (residual < 0.15 * small.var((1, 2, 3))).all(), "finer detail may appear, the scene may not change"


def test_every_class_is_drawn_and_varies():
    source = ScenesSource(40, 16)
    assert isinstance(source, ImageSource)
    assert (source.num_classes, source.class_names) == (10, CLASS_NAMES)
    assert [source[i][1] for i in range(12)] == [*range(10), 0, 1]
    for label in range(10):
        images = torch.stack([source[i][0] for i in range(label, 40, 10)]).float()
        assert images.std((1, 2, 3)).min() > 10, f"{CLASS_NAMES[label]} are nearly plain"
        assert (images[1:] - images[0]).abs().mean((1, 2, 3)).min() > 10, f"{CLASS_NAMES[label]} repeat themselves"


def test_classes_can_be_told_apart():
    """Nearest neighbours by power spectrum and colour, which forget the place, beat chance (0.1) by far."""
    images = to_float(ScenesSource(800, 32).images)
    centred = images.mean(1) - images.mean((1, 2, 3), keepdim=True)[:, 0]
    spectrum = torch.fft.rfft2(centred).abs().log1p().flatten(1)
    colour = 20 * torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)
    features, labels = torch.cat([spectrum, colour], 1), torch.arange(800) % 10
    nearest = torch.cdist(features[600:], features[:600]).topk(5, largest=False).indices
    assert (labels[nearest].mode().values == labels[600:]).float().mean() > 0.5


def test_scenes_hold_more_detail_than_shapes():
    scenes, shapes = (to_float(source(200, 32).images) for source in (ScenesSource, ShapesSource))
    assert high_frequency_share(scenes) > 2 * high_frequency_share(shapes)


def test_noise_has_the_spectrum_it_is_asked_for():
    x, y = frame(32, extent=16.0)  # one unit to a pixel
    values = {}
    for slope in (0.0, 1.0):
        texture = torch.from_numpy(noise(draws(400), x, y, 1 / 16, 0.4, slope, finest=10.0))[:, None]
        assert float(texture.var()) == pytest.approx(1, abs=0.15)
        values[slope] = radial_power_spectrum(texture)[1]
    # From 1/8 to 1/4 cycles per pixel: white stays level, the power of photographs falls to a quarter.
    for slope, expected in ((0.0, 1.0), (1.0, 4.0)):
        assert float(values[slope][4] / values[slope][8]) == pytest.approx(expected, rel=0.35)


def test_noise_shows_nothing_finer_than_the_pixels():
    x, y = frame(16, extent=1.0)
    assert float(np.abs(noise(draws(8), x, y, 4.0, 8.0, 0.0, finest=4.0)).max()) < 1e-3


def test_cells_are_uniform_and_independent_of_the_frame():
    column, row = np.meshgrid(np.arange(100.0), np.arange(100.0))
    key = np.array([[[7]]], np.uint32)
    values = cell_uniform(key, column[None], row[None])
    share = np.histogram(values, 10, (0, 1))[0] / values.size
    assert np.abs(share - 0.1).max() < 4 * np.sqrt(0.09 / values.size)  # four standard deviations of a binomial share
    assert abs(np.corrcoef(values[0, :, 1:].ravel(), values[0, :, :-1].ravel())[0, 1]) < 0.04
    assert np.array_equal(values[:, 3:5, 3:5], cell_uniform(key, column[None, 3:5, 3:5], row[None, 3:5, 3:5]))


def test_worley_distances_are_those_of_all_points():
    x, y = (values[None] for values in frame(8, extent=2.0))
    key = np.array([[[3]]], np.uint32)
    first, gap, _ = cells(x, y, key)
    column, row = np.meshgrid(np.arange(-5.0, 6), np.arange(-5.0, 6))
    points = [
        lattice + 0.1 + 0.8 * cell_uniform(key, column[None], row[None], salt)
        for salt, lattice in enumerate((column, row))
    ]
    distances = np.sort(
        np.hypot(*(a.ravel()[:, None] - b.ravel() for a, b in zip((x, y), points, strict=True))), axis=1
    )
    assert first.ravel() == pytest.approx(distances[:, 0], abs=1e-5)
    assert gap.ravel() == pytest.approx(distances[:, 1] - distances[:, 0], abs=1e-5)


def test_the_last_thing_lies_on_top():
    pile = Pile((1, 1, 3), 1)
    for number, inside in enumerate(([True, True, False], [False, True, False])):
        pile.put(number, np.array([[inside]]), np.full((1, 1, 3), 10.0 * (number + 1)))
    assert pile.top.tolist() == [[[0, 1, -1]]]
    assert pile.coordinates.tolist() == [[[[10.0, 20.0, 0.0]]]]
    assert pile.of_top(np.array([5.0, 6.0]).reshape(2, 1, 1, 1)).tolist() == [[[5.0, 6.0, 6.0]]]


def test_colours():
    assert rgb(0.0, 1.0, 1.0).ravel().tolist() == [1, 0, 0]
    assert rgb(1 / 3, 1.0, 0.5).ravel() == pytest.approx([0, 0.5, 0], abs=1e-6)
    assert rgb(0.7, 0.0, 0.3).ravel() == pytest.approx([0.3] * 3)


def test_named_on_a_command_line():
    named = open_source("scenes:5:1", 16)
    assert named.fingerprint() == ScenesSource(5, 16, seed=1).fingerprint()
    assert len({source.fingerprint() for source in (named, ScenesSource(5, 16), ShapesSource(5, 16, seed=1))}) == 3
    for where in ("scenes:many", "scenes:1:2:3"):
        with pytest.raises(ValueError, match="scenes:COUNT"):
            open_source(where, 16)
    for count, side in ((0, 32), (4, 8)):
        with pytest.raises(ValueError, match="scenes need"):
            ScenesSource(count, side)

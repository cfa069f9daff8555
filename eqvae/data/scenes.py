"""Procedural scenes: ten kinds of textures, edges and clutter that have names, for runs without any files.

Where `shapes` draws one smooth shape on a smooth ground, a scene is full to its border: walls, floors, fabric, grass,
clouds, and heaps of things that hide each other. It stands upright and is lit from above, as photographs are. A scene
is a function of (seed, index) in continuous coordinates, so the same one can be had at any resolution; finer detail
appears with more pixels.
"""

import math

import numpy as np
import torch
from torch import Tensor

from eqvae.data.clutter import balls, grass, houses, leaves
from eqvae.data.procedural import ProceduralSource
from eqvae.data.textures import Draws, cell_uniform, cells, mix, noise, rgb, smooth_step, turned
from eqvae.randomness import keyed_uniform

NUM_PARAMETERS = 512
OVERSAMPLING = 2  # samples along each axis of a pixel, averaged
DRAWN_TOGETHER = 64  # images of one class; their samples stay in the cache


def bricks(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """A wall of bricks in mortar, straight or a little askew."""
    u, v = turned(x, y, draws(-0.3, 0.3))
    width, mortar = draws(0.4, 0.75), draws(0.025, 0.06)
    height = width * draws(0.38, 0.55)
    rows = v / height + draws()
    row = np.floor(rows)
    columns = u / width + draws() + 0.5 * (row % 2)
    column, key = np.floor(columns), draws.key()
    edge = np.minimum((0.5 - abs(columns - column - 0.5)) * width, (0.5 - abs(rows - row - 0.5)) * height)
    stone = smooth_step(edge, mortar * 0.5, mortar * 0.9)
    value = draws(0.45, 0.75) * (0.7 + 0.5 * cell_uniform(key, column, row))
    hue = draws(0.97, 1.11) + 0.04 * (cell_uniform(key, column, row, 1) - 0.5)
    relief = 0.18 * np.clip(rows - row - 0.5, -0.5, 0.5)  # lit from above
    grain = 0.09 * noise(draws, x, y, 3, 40, 0.6, finest)
    wall = rgb(hue % 1, draws(0.3, 0.75), np.clip(value + relief + grain, 0, 1))
    joint = rgb(draws(0.05, 0.15), 0.12, np.clip(draws(0.55, 0.85) + 0.6 * grain, 0, 1))
    return mix(joint, wall, stone)


def tiles(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """A checkered floor that runs away from the eye, dull or shining."""
    depth = draws(1.3, 3.2) / (draws(1.35, 2.6) - y)
    u, v = turned(x * depth, depth * 1.5, draws(-0.8, 0.8))
    size = draws(0.35, 0.8)
    column, row = np.floor(u / size + draws()), np.floor(v / size + draws())
    dark, key = (column + row) % 2, draws.key()
    hue, contrast = draws(), draws(0.35, 0.75)
    value = 0.95 - contrast * dark + 0.14 * (cell_uniform(key, column, row) - 0.5)
    value += 0.05 * noise(draws, u, v, 1.5, 20, 0.7, finest)
    light = 0.72 + 0.28 * np.exp(-((x - draws(-1, 1)) ** 2 + (y - draws(-1, 1)) ** 2) / draws(0.5, 2))
    return rgb((hue + 0.5 * draws() * dark) % 1, draws(0.05, 0.7) * (0.35 + 0.65 * dark), np.clip(value * light, 0, 1))


def stripes(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """Striped cloth or hide: a grating of any direction whose lines are bent."""
    bend = draws(0, 0.9) * noise(draws, x, y, 0.25, 1.2, 1, finest)
    u, _ = turned(x, y, draws(0, math.pi))
    wave = np.sin(2 * math.pi * draws(1.2, 4.5) * u + 2 * bend + draws(0, 7))
    share = smooth_step(wave, -draws(0.15, 0.9), draws(0.15, 0.9))
    hue, shade = draws(), 1 + 0.16 * noise(draws, x, y, 0.3, 1.5, 1, finest)
    grain = 1 + 0.08 * noise(draws, x, y, 4, 40, 0.6, finest)
    one = rgb(hue, draws(0, 0.9), draws(0.1, 0.5))
    other = rgb((hue + draws(0.2, 0.8)) % 1, draws(0, 0.8), draws(0.7, 1))
    return np.clip(mix(one, other, share) * shade * grain, 0, 1)


def clouds(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """A sky, blue or at dusk, with ragged clouds whose undersides are darker."""
    high = 0.5 + 0.5 * y
    hue = draws(0.53, 0.64)
    sky = mix(rgb(hue, draws(0.1, 0.4), draws(0.8, 1)), rgb(hue, draws(0.5, 0.9), draws(0.45, 0.9)), high)
    glow = draws() ** 4 * np.clip(1.1 - 1.6 * high, 0, 1)
    sky = mix(sky, rgb(draws(0.02, 0.12), 0.6, 0.95), glow)
    stretch = draws(1, 2.2)
    body = noise(draws, x, y * stretch, 0.35, 14, 1.05, finest)
    cover = smooth_step(body, draws(-0.9, 0.7), draws(0.9, 1.8))
    shade = draws(0.82, 1) - draws(0.08, 0.3) * smooth_step(body, 0.3, 2.5)
    shade = shade - 0.1 * noise(draws, x, y * stretch, 1, 16, 1, finest) * cover
    return mix(sky, rgb(draws(0, 1), 0.06, np.clip(shade, 0, 1)), cover)


def pebbles(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """Round stones side by side, of many greys and browns, dark where they meet."""
    scale, squeeze = draws(1.7, 4.2), draws(1, 1.6)
    bent = 0.035 * noise(draws, x, y, 0.5, 3, 1, finest)
    across, up = scale * (x + bent) + draws(0, 50), scale * squeeze * (y - bent) + draws(0, 50)
    first, gap, number = cells(across, up, draws.key())
    dome = np.sqrt(np.clip(1 - first**2, 0, 1))
    value = (0.3 + 0.6 * number) * (0.45 + 0.55 * dome) * smooth_step(gap, 0.0, draws(0.15, 0.3))
    value = value * (1 + 0.1 * noise(draws, x, y, 4, 40, 0.6, finest)) + 0.06
    hue = draws(0.02, 0.15) + 0.5 * (number * 7 % 1 - 0.5) * draws(0, 0.5)
    return rgb(hue % 1, draws(0.03, 0.4) + 0.12 * (number * 13 % 1), np.clip(value, 0, 1))


def planks(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """Boards of wood, upright or lying, with grain along them and dark joints."""
    u, v = turned(x, y, math.pi / 2 * np.rint(draws()) + draws(-0.12, 0.12))
    width = draws(0.3, 0.65)
    boards = v / width + draws()
    board, key = np.floor(boards), draws.key()
    length = draws(1.2, 3)
    along = u / length + cell_uniform(key, board, board)
    piece = np.floor(along)
    shift = 20 * cell_uniform(key, board, piece, 1)
    wander = noise(draws, u * 0.35 + shift, v * 1.6 + shift, 0.4, 3, 1, finest)
    grain = np.sin(2 * math.pi * (draws(2.5, 6) * v + draws(0.25, 0.8) * wander + shift))
    fibre = noise(draws, u * 0.2 + shift, v, 3, 30, 0.7, finest)
    edge = np.minimum((0.5 - abs(boards - board - 0.5)) * width, (0.5 - abs(along - piece - 0.5)) * length)
    joint = smooth_step(edge, 0.008, draws(0.025, 0.05))
    value = draws(0.5, 0.85) * (0.78 + 0.34 * cell_uniform(key, board, piece, 2))
    value = value + draws(0.03, 0.12) * grain + 0.05 * fibre
    hue = draws(0.03, 0.11) + 0.02 * grain
    return rgb(hue, draws(0.2, 0.7), np.clip(value * (0.25 + 0.75 * joint), 0, 1))


CLASSES = (bricks, tiles, stripes, grass, clouds, pebbles, planks, leaves, balls, houses)
CLASS_NAMES = [draw.__name__ for draw in CLASSES]


def draw_scenes(seed: int, indices: Tensor | list[int], size: int) -> Tensor:
    """The images of these indices: uint8 [N, 3, size, size]. The class of an image is its index modulo ten."""
    indices = torch.as_tensor(indices, dtype=torch.long)
    side = size * OVERSAMPLING
    grid = ((np.arange(side, dtype=np.float32) + 0.5) * 2 / side) - 1
    x, y = np.meshgrid(grid, -grid)
    images = torch.empty((len(indices), 3, size, size), dtype=torch.uint8)
    labels = indices % len(CLASSES)
    for label in labels.unique().tolist():
        for chosen in torch.nonzero(labels == label).flatten().split(DRAWN_TOGETHER):
            uniforms = keyed_uniform(indices[chosen], (NUM_PARAMETERS,), seed=seed, stream="scenes").numpy()
            samples = CLASSES[label](Draws(uniforms), x, y, size / 4)  # Nyquist: size / 2 pixels to the unit
            images[chosen] = _to_pixels(samples, size).movedim(0, 1)
    return images


def _to_pixels(samples: np.ndarray, size: int) -> Tensor:
    """Colours [3, N, S, S] in [0, 1] to uint8 [3, N, size, size], each pixel the mean of its samples."""
    shape = (*samples.shape[:2], size, OVERSAMPLING, size, OVERSAMPLING)
    pixels = samples.reshape(shape).mean((3, 5))
    return torch.from_numpy(np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8))


class ScenesSource(ProceduralSource):
    """Scenes as an image source; drawn at first use and kept in memory.

    Args:
        num_images: how many.
        image_size: side in pixels, from 16.
        seed: of the images; another seed gives other images of the same ten classes.
        num_threads: that draw side by side; the images do not depend on it.
    """

    name, version, smallest_side = "scenes", 1, 16
    class_names = CLASS_NAMES
    num_classes = len(CLASS_NAMES)
    draw = staticmethod(draw_scenes)

"""Procedural images: one shaded shape on a gradient, in ten classes, for runs without any files.

Place, size, orientation, light and colours are drawn per image, so an autoencoder has to learn position, size and
orientation, and a generator what the classes look like. An image is a function of (seed, index) and is drawn from
signed distances, so the same scene can be had at any resolution.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from eqvae.data.procedural import ProceduralSource
from eqvae.randomness import keyed_uniform

CLASS_NAMES = ["disc", "ring", "triangle", "square", "star", "cross", "heart", "crescent", "drop", "arrow"]
NUM_PARAMETERS = 16

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _disc(x: np.ndarray, y: np.ndarray, radius: float = 1.0) -> np.ndarray:
    return np.hypot(x, y) - radius


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - 0.7) - 0.27


def _polygon(x: np.ndarray, y: np.ndarray, corners: int, inner_radius: float) -> np.ndarray:
    normals = 2 * math.pi * (np.arange(corners) + 0.5) / corners + math.pi / 2
    return np.max([x * math.cos(a) + y * math.sin(a) for a in normals], axis=0) - inner_radius


def _box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    fold = math.pi / 5
    angle = np.abs((np.arctan2(x, y) + fold) % (2 * fold) - fold)
    radius = np.hypot(x, y)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    tip, notch = (1.15, 0.0), (0.48 * math.cos(fold), 0.48 * math.sin(fold))
    edge = (notch[0] - tip[0], notch[1] - tip[1])
    return ((v - tip[1]) * -edge[0] + (u - tip[0]) * edge[1]) / math.hypot(*edge)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(_box(x, y, 1.0, 0.32), _box(x, y, 0.32, 1.0))


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    side, y = 0.56, y + 0.28
    tilted = _box((x + y) * math.sqrt(0.5), (x - y) * math.sqrt(0.5), side, side)
    lobe = side * math.sqrt(0.5)
    return np.minimum(tilted, _disc(np.abs(x) - lobe, y - lobe, side))


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(_disc(x, y), -_disc(x - 0.5, y, 0.78))


def _drop(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    radius, centre, tip = 0.66, -0.34, 1.15
    sine = radius / (tip - centre)
    cosine = math.sqrt(1 - sine * sine)
    wedge = np.maximum(np.abs(x) * cosine + (y - tip) * sine, centre + radius * sine - y)
    return np.minimum(_disc(x, y - centre, radius), wedge)


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    head = np.maximum((np.abs(x) * 0.95 + (y - 1.1) * 0.85) / math.hypot(0.95, 0.85), 0.1 - y)
    return np.minimum(head, _box(x, y + 0.45, 0.28, 0.6))


# Signed distance of each class at unit size: negative inside, close to distance outside.
DISTANCES = (
    partial(_disc, radius=0.92),
    _ring,
    partial(_polygon, corners=3, inner_radius=0.56),
    partial(_box, half_width=0.78, half_height=0.78),
    _star,
    _cross,
    _heart,
    _crescent,
    _drop,
    _arrow,
)


def _hsv_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[N] each in [0, 1] to [N, 3]."""
    phase = (hue[:, None] * 6 + np.array([5.0, 3.0, 1.0], np.float32)) % 6
    wedge = np.clip(np.minimum(phase, 4 - phase), 0, 1)
    return value[:, None] * (1 - saturation[:, None] * wedge)


def draw_shapes(seed: int, indices: Tensor | list[int], size: int) -> Tensor:
    """The images of these indices: uint8 [N, 3, size, size]. The class of an image is its index modulo ten."""
    return _draw_each(_draw_class, seed, indices, np.empty((len(indices), 3, size, size), np.uint8))


def draw_masks(seed: int, indices: Tensor | list[int], size: int) -> Tensor:
    """Where the shapes of these indices are: bool [N, size, size], true for pixels whose centre lies inside."""
    return _draw_each(_mask_class, seed, indices, np.empty((len(indices), size, size), bool))


def _draw_each(draw: Callable[..., np.ndarray], seed: int, indices: Tensor | list[int], drawn: np.ndarray) -> Tensor:
    """Fill `drawn` [N, ..., S, S] with what `draw(distance, parameters, x, y)` gives of each class."""
    indices, size = torch.as_tensor(indices, dtype=torch.long), drawn.shape[-1]
    parameters = keyed_uniform(indices, (NUM_PARAMETERS,), seed=seed, stream="shapes").numpy()
    grid = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size) - 1
    x, y = np.meshgrid(grid, -grid)
    for label, distance in enumerate(DISTANCES):
        chosen = np.flatnonzero(indices.numpy() % len(DISTANCES) == label)
        if len(chosen):
            drawn[chosen] = draw(distance, parameters[chosen], x, y)
    return torch.from_numpy(drawn)


def _mask_class(distance: Distance, parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pixels inside the shapes of one class, bool [N, S, S]."""
    columns = iter(parameters.T[:, :, None, None])
    u, v, radius = _place(columns, x, y)
    return _signed_distance(distance, 2 * math.pi * next(columns), u, v, radius) < 0


def _place(columns: Iterator[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates in units of the shape, [N, S, S] each, and its radius [N, 1, 1]; takes three columns."""
    radius = 0.46 + 0.24 * next(columns)
    reach = 0.9 - radius  # keeps the shape inside the frame
    offset_x, offset_y = reach * (2 * next(columns) - 1), reach * (2 * next(columns) - 1)
    return (x - offset_x) / radius, (y - offset_y) / radius, radius


def _signed_distance(
    distance: Distance, turn: np.ndarray, u: np.ndarray, v: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """[N, S, S], negative inside, in half sides of the image."""
    return distance(u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)) * radius


def _draw_class(distance: Distance, parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Images of one class, uint8 [N, 3, S, S], from [N, 16] uniforms."""
    columns = iter(parameters.T[:, :, None, None])
    u, v, radius = _place(columns, x, y)
    turn, light, slope = (2 * math.pi * next(columns) for _ in range(3))
    signed = _signed_distance(distance, turn, u, v, radius)
    pixel = 2 / x.shape[-1]
    coverage = np.clip(0.5 - signed / (1.4 * pixel), 0, 1)  # edges about 1.4 pixels soft
    shade = 1 + 0.33 * (u * np.cos(light) + v * np.sin(light))  # lit from one side
    shade *= 1 - 0.3 * np.exp(-np.clip(-signed, 0, None) / (0.09 * radius + 0.5 * pixel))  # darker towards the rim

    hue, offset, saturation, value, back_saturation, back_value, back_hue = (next(columns)[:, 0, 0] for _ in range(7))
    # Shape and ground differ in hue by a third of the circle or more and in brightness, so that edges carry weight.
    colour = _hsv_to_rgb(hue, 0.65 + 0.35 * saturation, 0.8 + 0.2 * value)
    ground_hue = hue + 0.33 + 0.34 * offset
    ground = _hsv_to_rgb(ground_hue % 1, 0.25 + 0.35 * back_saturation, 0.28 + 0.3 * back_value)
    far = _hsv_to_rgb((ground_hue + 0.16 * (back_hue - 0.5)) % 1, 0.2 + 0.3 * back_saturation, 0.5 + 0.3 * back_value)
    blend = 0.5 + 0.35 * (x * np.cos(slope) + y * np.sin(slope))

    ground, far, colour = (c[:, :, None, None] for c in (ground, far, colour))
    background = ground + (far - ground) * blend[:, None]
    image = background + (colour * shade[:, None] - background) * coverage[:, None]
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


class ShapesSource(ProceduralSource):
    """Procedural images as an image source; drawn at first use and kept in memory.

    Args:
        num_images: how many.
        image_size: side in pixels.
        seed: of the images; another seed gives other images of the same ten classes.
        num_threads: that draw side by side; the images do not depend on it.
    """

    name, version, smallest_side = "shapes", 2, 8
    class_names = CLASS_NAMES
    num_classes = len(CLASS_NAMES)
    draw = staticmethod(draw_shapes)

    def masks(self, indices: Tensor) -> Tensor:
        """Where the shapes are: bool [B, S, S] of the images of these indices [B]."""
        return draw_masks(self.seed, indices, self.image_size)

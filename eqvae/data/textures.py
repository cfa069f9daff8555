"""What procedural scenes are painted with: uniform draws, colours, noise, lattices of cells.

All is a function of scene coordinates, x to the right and y upwards, [-1, 1] inside the frame; arrays broadcast as
[N, S, S], one layer for each image.
"""

import math

import numpy as np

NUM_WAVES = 24
Level = np.ndarray | float


class Draws:
    """Hands out uniform numbers, one or several for each image, always in the same order.

    Args:
        uniforms: [N, K] in (0, 1).
    """

    def __init__(self, uniforms: np.ndarray):
        self._columns = uniforms.T[:, :, None, None]
        self._used = 0

    def __call__(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """[N, 1, 1], the next number of each image."""
        return self.many(1, low, high)[0]

    def many(self, count: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """[count, N, 1, 1], the next numbers of each image."""
        self._used += count
        assert self._used <= len(self._columns), f"a scene draws more than {len(self._columns)} numbers"
        return low + (high - low) * self._columns[self._used - count : self._used]

    def key(self) -> np.ndarray:
        """[N, 1, 1] uint32, a seed for `cell_uniform`."""
        return (self() * 2**31).astype(np.uint32)


def rgb(hue: Level, saturation: Level, value: Level) -> np.ndarray:
    """Float32 [3, N, S, S] from hue in circles, saturation and value in [0, 1], which broadcast."""
    parts = np.atleast_3d(*(np.asarray(part, np.float32) for part in (hue, saturation, value)))
    hue, saturation, value = np.broadcast_arrays(*parts)
    phase = (hue * 6 + np.array([5, 3, 1], np.float32).reshape(3, *[1] * hue.ndim)) % 6
    return value * (1 - saturation * np.clip(np.minimum(phase, 4 - phase), 0, 1))


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """a where share is 0, b where it is 1."""
    return a + (b - a) * share


def smooth_step(x: np.ndarray, low: Level, high: Level) -> np.ndarray:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def turned(x: np.ndarray, y: np.ndarray, angle: Level) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along axes that are turned by an angle, in radians and counter-clockwise."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def noise(draws: Draws, x: np.ndarray, y: np.ndarray, lowest: float, highest: Level, slope: float, finest: float):
    """A Gaussian texture of variance 1: random plane waves.

    Args:
        lowest, highest: frequencies in cycles per unit; waves are spread evenly over their logarithm.
        slope: half the fall of the power, f^(-2 slope): 0 is white noise, 1 is that of photographs.
        finest: frequency that the image can show; waves fade out below it.
    """
    octave, angle, phase = draws.many(NUM_WAVES), draws.many(NUM_WAVES), draws.many(NUM_WAVES, 0, 2 * math.pi)
    steps = ((np.arange(NUM_WAVES, dtype=np.float32) / NUM_WAVES)[:, None, None, None] + octave / NUM_WAVES) % 1
    frequency = lowest * (highest / lowest) ** steps
    # Evenly spread over the logarithm, equal amplitudes are a power of f^-2 in the plane, as photographs have: slope 1.
    amplitude = frequency ** (1 - slope) * np.clip(2 - 2 * frequency / finest, 0, 1)
    amplitude /= np.sqrt(0.5 * (amplitude**2).sum(0)).clip(1e-6)
    total = np.zeros(np.broadcast_shapes(x.shape, octave.shape[1:]), np.float32)
    for k in range(NUM_WAVES):
        turn = 2 * math.pi * angle[k]
        u = 2 * math.pi * frequency[k]
        total += amplitude[k] * np.cos(u * np.cos(turn) * x + u * np.sin(turn) * y + phase[k])
    return total


def cell_uniform(key: np.ndarray, column: np.ndarray, row: np.ndarray, salt: int = 0) -> np.ndarray:
    """Uniform float32 in [0, 1) for each cell of an integer lattice; another salt gives an independent number.

    The mixing function is lowbias32 of C. Wellons' "Prospecting for hash functions" (2018).
    """
    column, row = (place.astype(np.int32).view(np.uint32) for place in (column, row))
    x = (column * np.uint32(0x9E3779B1)) ^ (row * np.uint32(0x85EBCA77)) ^ (key + np.uint32(salt * 0x27D4EB2F % 2**32))
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return (x >> np.uint32(8)).astype(np.float32) / 2**24


def cells(x: np.ndarray, y: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Worley's cells around jittered points of the unit lattice.

    Returns:
        Distance to the nearest point, how much farther the second is, and a uniform number of the nearest cell.
    """
    column, row = np.floor(x), np.floor(y)
    first = np.full(x.shape, 9.0, np.float32)
    second, number = first.copy(), np.zeros(x.shape, np.float32)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            across, up = column + i, row + j
            dx = across + 0.1 + 0.8 * cell_uniform(key, across, up) - x
            dy = up + 0.1 + 0.8 * cell_uniform(key, across, up, 1) - y
            distance = np.hypot(dx, dy)
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            first = np.where(nearer, distance, first)
            number = np.where(nearer, cell_uniform(key, across, up, 2), number)
    return first, second - first, number

"""Scenes of many things that hide each other: blades of grass, leaves, balls, houses. Painted from back to front."""

import math

import numpy as np

from eqvae.data.textures import Draws, cell_uniform, mix, noise, rgb, smooth_step, turned

NUM_BLADES, NUM_LEAVES, NUM_BALLS, NUM_STREETS = 48, 36, 6, 3


class Pile:
    """What lies on top at each sample: the number of the thing and some of its coordinates there.

    Args:
        shape: (N, S, S).
        num_coordinates: that are kept of the topmost thing.
    """

    def __init__(self, shape: tuple[int, ...], num_coordinates: int):
        self.top = np.full(shape, -1, np.int16)
        self.coordinates = np.zeros((num_coordinates, *shape), np.float32)

    def put(self, number: int, inside: np.ndarray, *coordinates: np.ndarray) -> None:
        """Lay the next thing on top, where `inside` [N, S, S] is true."""
        np.copyto(self.top, number, where=inside)
        for kept, values in zip(self.coordinates, coordinates, strict=True):
            np.copyto(kept, values, where=inside)

    def of_top(self, values: np.ndarray) -> np.ndarray:
        """[N, S, S]: each sample's entry of values [count, N, 1, 1]; of the last thing where there is none."""
        return np.take_along_axis(values[:, :, 0, 0].T, self.top.reshape(len(self.top), -1), 1).reshape(self.top.shape)


def grass(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """A meadow: bent blades that taper, the near ones lower, longer and brighter."""
    hue, wind = draws(0.17, 0.34), draws(-0.35, 0.35)
    ground = np.clip(draws(0.1, 0.3) + 0.04 * noise(draws, x, y, 1, 20, 0.7, finest), 0, 1)
    across, tint, lean = draws.many(NUM_BLADES, -1.1, 1.1), draws.many(NUM_BLADES), draws.many(NUM_BLADES, -0.45, 0.45)
    length, light = draws.many(NUM_BLADES, 0.6, 1.2), draws.many(NUM_BLADES, 0.35, 1)
    thick, lush = draws(0.05, 0.1), draws(0.45, 0.9)
    pile = Pile(ground.shape, 1)
    for k in range(NUM_BLADES):
        near = k / NUM_BLADES
        t = (y - (0.75 - 2.1 * near)) * (1 / (length[k] * (0.5 + 0.5 * near)))
        inside = abs(x - across[k] - (lean[k] + wind) * t * abs(t)) < thick * (0.5 + 0.5 * near) * (1 - t)
        pile.put(k, inside & (t > 0), t)
    value = (0.25 + 0.75 * pile.coordinates[0]) * (0.35 + 0.65 * pile.of_top(light))
    blades = rgb(hue + 0.07 * (pile.of_top(tint) - 0.5), lush, np.clip(value, 0, 1))
    return np.where(pile.top < 0, rgb(hue, 0.6, ground), blades)


def leaves(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """Fallen leaves of all sizes on each other, with a midrib and veins."""
    autumn, hue = draws(), draws(0.02, 0.3)
    ground = rgb(draws(0.04, 0.12), 0.5, np.clip(0.22 + 0.06 * noise(draws, x, y, 1, 20, 0.7, finest), 0, 1))
    across, up = draws.many(NUM_LEAVES, -1.1, 1.1), draws.many(NUM_LEAVES, -1.1, 1.1)
    turn, size, slim = draws.many(NUM_LEAVES, 0, 2 * math.pi), draws.many(NUM_LEAVES), draws.many(NUM_LEAVES, 0.3, 0.6)
    tint, light = draws.many(NUM_LEAVES, -1, 1), draws.many(NUM_LEAVES, 0.35, 1)
    length = 0.22 / np.sqrt(1 - 0.92 * size)  # sizes follow a power law, as in dead-leaves models
    pile = Pile(ground.shape[1:], 2)
    for k in range(NUM_LEAVES):
        cosine, sine = np.cos(turn[k]) / length[k], np.sin(turn[k]) / length[k]
        u = cosine * (x - across[k]) + sine * (y - up[k])
        v = cosine * (y - up[k]) - sine * (x - across[k])
        pile.put(k, abs(v) < slim[k] * (1 - u * u), u, v)
    u, v = pile.coordinates
    rib = np.exp(-((v / 0.07) ** 2)) + 0.45 * np.clip(np.sin(14 * (u - 0.8 * abs(v))), 0, 1)
    rim = 1 - 0.35 * np.exp(9 * (abs(v) - pile.of_top(slim) * (1 - u * u)))
    value = pile.of_top(light) * (0.8 + 0.25 * v * np.cos(pile.of_top(turn)) + 0.22 * rib) * rim
    shown = rgb((hue + 0.12 * autumn * pile.of_top(tint)) % 1, 0.85 - 0.35 * np.clip(rib, 0, 1), np.clip(value, 0, 1))
    return np.where(pile.top < 0, ground, shown)


def balls(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """Balls on a floor before a wall: plain, striped or dotted, lit from above, the near ones hiding the far ones."""
    horizon, hue = draws(0.0, 0.5), draws()
    wall = rgb(hue, draws(0.05, 0.5), np.clip(draws(0.45, 0.9) + 0.05 * noise(draws, x, y, 0.5, 8, 1, finest), 0, 1))
    depth = 1 / (horizon + 0.45 - np.minimum(y, horizon))
    boards = smooth_step(np.sin(draws(4, 9) * x * depth), -0.3, 0.3) * draws(0, 0.25)
    ground = draws(0.35, 0.8) - boards + 0.05 * noise(draws, x * depth, 3 * depth, 1, 12, 0.8, finest)
    floor = rgb((hue + draws(0.2, 0.8)) % 1, draws(0.1, 0.5), np.clip(ground, 0, 1))
    colour = mix(floor, wall, smooth_step(y, horizon - 0.02, horizon))
    light = draws(-0.5, 0.5)
    across, size, tint = draws.many(NUM_BALLS, -0.85, 0.85), draws.many(NUM_BALLS), draws.many(NUM_BALLS)
    kind, turn, bands = draws.many(NUM_BALLS), draws.many(NUM_BALLS, 0, math.pi), draws.many(NUM_BALLS, 2, 5)
    for k in range(NUM_BALLS):
        near = (k + 0.5) / NUM_BALLS
        radius = (0.16 + 0.2 * size[k]) * (0.7 + 0.7 * near)
        stand = horizon - 0.1 - (0.75 + horizon) * near
        u, v = (x - across[k]) / radius, (y - stand - radius) / radius
        shadow = np.exp(-((u + light) ** 2 / 1.4 + ((y - stand) / radius / 0.3) ** 2) * 1.2)
        colour = colour * (1 - 0.6 * shadow * (y < horizon))
        height = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
        a, b = turned(u, v, turn[k])
        pattern = np.where(kind[k] < 0.6, np.sin(bands[k] * 1.6 * np.arcsin(np.clip(a, -1, 1))), 0.9)
        dots = np.sin(2.2 * bands[k] * a / (0.35 + height)) * np.sin(2.2 * bands[k] * b / (0.35 + height))
        pattern = smooth_step(np.where(kind[k] > 0.8, dots, pattern), -0.12, 0.12)
        lambert = np.clip(0.3 + 0.75 * (0.45 * height + 0.75 * v - light * u), 0.12, 1.1)
        shine = np.clip(0.5 * height + 0.72 * v - light * u, 0, 1) ** 18
        ball = mix(rgb((tint[k] + 0.45) % 1, 0.15, 0.95), rgb(tint[k], 0.85, 0.85), pattern)
        ball = np.clip(ball * lambert + 0.7 * shine, 0, 1)
        np.copyto(colour, ball, where=u * u + v * v < 1)
    return colour


def houses(draws: Draws, x: np.ndarray, y: np.ndarray, finest: float):
    """A town by day or at night: rows of houses with lit windows and pitched or flat roofs, nearer ones lower."""
    night, hue = draws() ** 2, draws(0.5, 0.68)
    sky = rgb(hue, 0.3 + 0.4 * night, np.clip(0.95 - 0.75 * night - 0.2 * y * (1 - night), 0, 1))
    colour = mix(sky, rgb(draws(0.02, 0.12), 0.5, 0.95), draws() * np.clip(0.5 - y, 0, 1))
    for k in range(NUM_STREETS):
        near = k / (NUM_STREETS - 1)
        width, key = draws(0.35, 0.55) * (0.7 + 0.6 * near), draws.key()
        along = x / width + draws(0, 20)
        house = np.floor(along)
        u = along - house  # across a house, 0 to 1
        unit = [cell_uniform(key, house, house * 0 + k, salt) for salt in range(5)]
        eaves = 0.72 - 0.95 * near + (0.55 * unit[0] - 0.2)
        pitch = np.where(unit[1] < 0.5, 0.0, width * (0.35 + 0.4 * unit[2]))
        roof = eaves + pitch * (1 - 2 * abs(u - 0.5))
        value = (0.35 + 0.5 * unit[3]) * (1 - 0.55 * night) * (0.75 + 0.25 * near)
        front = rgb((unit[4] * 0.2 + draws(-0.04, 0.06)) % 1, 0.15 + 0.5 * unit[2], value)
        front = front * (1 - 0.25 * (u > 0.93)) * (1 - 0.45 * (y > eaves))
        floors = (y - eaves) / (0.17 * (0.7 + 0.5 * near))
        columns = u * np.floor(2.5 + 2 * unit[1])
        storey, column = np.floor(floors), np.floor(columns)
        pane = (abs(floors - storey - 0.5) < 0.3) & (abs(columns - column - 0.5) < 0.27) & (floors < 0)
        lit = cell_uniform(key, house * 8 + column, storey, 6) < 0.15 + 0.4 * night
        glass = np.where(lit, rgb(0.13, 0.5, 0.98), rgb(0.6, 0.35, 0.3 - 0.15 * night + 0.2 * unit[0] * (1 - night)))
        np.copyto(colour, np.where(pane, glass, front), where=y < roof)
    return colour

"""Simulated sweeps with a known speed-up, to count how often verdicts err.

log F(arm, seed, t) = log(P + A (s t)^-g) + pair + own + sampling, t in units of the last step, s the arm's speed-up. A
training's offset is a stationary autoregression over the evaluation points; a share of its variance is common to all
trainings of a seed.
"""

from collections.abc import Sequence

import numpy as np

POINTS = 2.0 ** (np.arange(-6, 1) / 2)  # seven, a factor of sqrt(2) apart
SHAPES = {"mid": (0.3, 0.7, 0.5), "tiny": (0.5, 0.5, 0.9), "flat": (0.8, 0.2, 0.5), "shapes": (0.903, 0.097, 1.877)}
TRAINING_SD, SHARED, PERSISTENCE = 0.0126, 0.3, 0.8  # of a training's offset; persistence per doubling of the steps
SAMPLING_SD, EFFECT_SD = 0.004, 0.03


def simulate(shape: str, speed_up: float, num_pairs: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Values of the control and of the treated arm, both [num_pairs, 7]."""
    control, treated = simulate_arms(shape, [1.0, speed_up], num_pairs, draw)
    return control, treated


def simulate_arms(
    shape: str, speed_ups: Sequence[float], num_seeds: int, draw: np.random.Generator
) -> list[np.ndarray]:
    """Values of each arm, [num_seeds, 7]; the first is the control, whose speed does not vary with the seed.

    Args:
        speed_ups: true ones over the control, the first being 1.
    """
    floor, height, exponent = SHAPES[shape]

    def offsets(sd: float) -> np.ndarray:
        kept = PERSISTENCE ** np.diff(np.log2(POINTS))
        walk = [draw.normal(size=num_seeds)]
        for share in kept:
            walk.append(share * walk[-1] + np.sqrt(1 - share**2) * draw.normal(size=num_seeds))
        return sd * np.stack(walk, axis=1)

    common = offsets(TRAINING_SD * np.sqrt(SHARED))
    varying = [each * np.exp(EFFECT_SD * draw.normal(size=(num_seeds, 1))) for each in speed_ups[1:]]
    arms = []
    for speed in (speed_ups[0] * np.ones((num_seeds, 1)), *varying):
        noise = common + offsets(TRAINING_SD * np.sqrt(1 - SHARED))
        noise = noise + SAMPLING_SD * draw.normal(size=(num_seeds, len(POINTS)))
        arms.append((floor + height * (speed * POINTS) ** -exponent) * np.exp(noise))
    return arms

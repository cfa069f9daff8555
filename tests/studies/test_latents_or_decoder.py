"""Which part of EQ acts, on curves whose speed-ups are known."""

from dataclasses import replace

import numpy as np
import pytest

from studies.latents_or_decoder import effects, tables
from tests.twostage.synthetic_sweep import changed
from twostage.analysis.records import Arm

JITTER = {"decoder": (1.0, 1.02, 0.99), "latents": (1.01, 0.98, 1.0), "both": (0.99, 1.0, 1.02)}


def results_of(**factors):
    """Arms that are so many times as fast as the control, three seeds."""
    base = changed(factors=(1.0, 1.0, 1.0))
    curves = [curve for curve in base.curves if curve.arm == "control"]
    for name, factor in factors.items():
        treated = changed(factors=tuple(factor * jitter for jitter in JITTER[name])).curves
        curves += [replace(curve, arm=name) for curve in treated if curve.arm == "equivariant"]
    return replace(base, arms=[base.arms[0], *(Arm(name, name) for name in factors)], curves=curves)


@pytest.mark.parametrize(
    ("factors", "decoder", "latents", "acting"),
    [
        ({"decoder": 1.5, "latents": 1.0, "both": 1.5}, 1.5, 1.0, "its decoder"),
        ({"decoder": 1.0, "latents": 1.5, "both": 1.5}, 1.0, 1.5, "its latents"),
        ({"decoder": 1.3, "latents": 1.4, "both": 1.82}, 1.3, 1.4, "its decoder and its latents"),
        ({"decoder": 1.0, "latents": 1.0, "both": 1.0}, 1.0, 1.0, "neither for certain"),
    ],
)
def test_each_part_is_given_what_it_does(factors, decoder, latents, acting):
    results = results_of(**factors)
    found = effects(results)
    assert np.exp([found["decoder"].mean, found["latents"].mean]) == pytest.approx([decoder, latents], rel=0.02)
    assert tables(results).endswith(f"**What acts: {acting}.**")


def test_an_arm_that_lacks_and_a_bound_are_refused():
    with pytest.raises(ValueError, match="are needed in every seed"):
        effects(results_of(decoder=1.2, latents=1.1))
    with pytest.raises(ValueError, match="has no speed-up but a bound"):
        effects(results_of(decoder=100.0, latents=1.1, both=1.2))

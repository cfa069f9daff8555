"""Saved measurements for a model card: results of `evaluate.py --output`, and `metrics.json` of a sweep's parts.

A card takes the metrics that have a definition; predictors, curves and conditions stay in the files.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eqvae.cards import Measurement, last_name
from eqvae.evaluation.metrics import find_metric, in_order
from eqvae.hashes import read_json

FINGERPRINT = "autoencoder_fingerprint"  # of a result: what was measured
PAIR = ("first", "second")  # in a result of two autoencoders


def read_measurements(
    files: Iterable[str | Path], fingerprint: str | None = None, samples: bool = False
) -> list[Measurement]:
    """What several files have measured, in the order of tables; of a name in two files both are kept.

    Args:
        files: JSON with its hash, as `evaluate.py --output` and sweeps write it.
        fingerprint: of the autoencoder that must have been measured; results that do not tell are taken.
        samples: whether what samples measure belongs there, too: on a generator's card, not on an autoencoder's.

    Raises:
        ValueError: naming a file that is missing or damaged, holds no metric, or measured another autoencoder.
    """
    found = [each for path in files for each in _read(Path(path), fingerprint, samples)]
    places = {name: place for place, name in enumerate(in_order([[each.name for each in found]]))}
    return sorted(found, key=lambda each: places[each.name])


def _read(path: Path, fingerprint: str | None, samples: bool) -> list[Measurement]:
    result = _of_autoencoder(read_json(path), path, fingerprint)
    if not samples and "num_generated" in result:
        raise ValueError(f"{path} was measured on samples, not on an autoencoder: leave it out")
    data, amount = _images(result), _amount(result)
    measured = [
        _measurement(name, value, result, data, amount)
        for name, value in result.items()
        if isinstance(value, float) and find_metric(name).definition
    ]
    if not measured:
        raise ValueError(f"{path} holds no metric: give a result of evaluate.py --output, or a sweep's metrics.json")
    for each in measured:
        if not math.isfinite(each.value):
            raise ValueError(f"{path}: {each.name} is {each.value}, not a finite number: measure again")
    return measured


def _of_autoencoder(result: dict[str, Any], path: Path, fingerprint: str | None) -> dict[str, Any]:
    """The result of an autoencoder in a file of one or two."""
    several = [result[name] for name in PAIR if isinstance(result.get(name), dict)] or [result]
    if fingerprint is None:
        return several[0]
    fitting = [each for each in several if each.get(FINGERPRINT, fingerprint) == fingerprint]
    if len(fitting) != 1:
        named = ", ".join(last_name(str(each.get("autoencoder"))) for each in several)
        raise ValueError(f"{path} was measured on {named}, which is not this autoencoder: measure it, too")
    return fitting[0]


def _measurement(name: str, value: float, result: Mapping[str, Any], data: str, amount: str) -> Measurement:
    metric, spread = find_metric(name), result.get(f"{name}_std")
    direction = metric.direction if metric.direction in ("higher", "lower") else ""
    return Measurement(
        name=name,
        label=metric.full_name,
        value=value,
        spread=spread if isinstance(spread, float) else None,
        kind=metric.name,
        definition=metric.definition,
        direction=direction or "",
        data=data,
        amount=amount,
    )


def _images(result: Mapping[str, Any]) -> str:
    """Name of the images, without their place; "" where a result does not tell."""
    reference = result.get("reference")
    place = (reference if isinstance(reference, dict) else result).get("data")
    return last_name(place) if isinstance(place, str) else ""


def _amount(result: Mapping[str, Any]) -> str:
    """How many images of which size, as far as a result tells."""
    words = {"num_images": "images", "num_generated": "generated images", "num_reference": "real ones"}
    known = {name: result[name] for name in words if result.get(name) is not None}  # stored statistics tell no number
    counts = [f"{int(count):,} {words[name]}" for name, count in known.items()]
    side = [f"{result['image_size']} pixels"] if "image_size" in result else []
    return ", ".join([*counts, *side])

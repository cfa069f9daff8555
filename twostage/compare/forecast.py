"""What latents foretell before a generator is trained on them, and how often such forecasts were right.

The gauge is that of the study of many latent spaces (docs/forecast.md): the number of a latent space that ranked spaces
best as generators do, and the record of numbers so chosen on shapes of autoencoders that they were not chosen on.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from eqvae.autoencoders import Autoencoder, load_autoencoder
from eqvae.data import ImageSource, open_source
from eqvae.evaluation.metric import Metric
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample, predict

GAUGE = Path(__file__).parents[1] / "published/gauge.json"
NUM_IMAGES = 1000  # of the study, too
TELLING = 0.6  # share of right ones below which a forecast is none


@dataclass(frozen=True)
class Record:
    """Pairs of the study that lay about so far apart.

    Args:
        least: spreads that they lay apart at least.
        pairs, right: their number, and of how many the number and the generators had the same order.
    """

    least: float
    pairs: int
    right: int

    @property
    def share(self) -> float:
        return self.right / self.pairs


@dataclass(frozen=True)
class Gauge:
    """A number of latents that tells which of two a generator learns faster.

    Args:
        quantity: "predictor/quantity".
        better: "lower" or "higher".
        spread: standard deviation of the number among the study's spaces of one shape.
        records: by how far two spaces lie apart, nearest first; the first from 0 on.

    Raises:
        ValueError: if there is no such quantity, or the records are not in order.
    """

    quantity: str
    better: str
    spread: float
    records: tuple[Record, ...]

    def __post_init__(self):
        if self.quantity not in METRICS or self.better not in ("lower", "higher") or not self.spread > 0:
            raise ValueError(f"{self.quantity!r}, {self.better!r} better, spread {self.spread} is no gauge")
        ordered = all(first.least < second.least for first, second in pairwise(self.records))
        if not self.records or self.records[0].least != 0 or not ordered:
            raise ValueError("records of a gauge go from 0 upwards")

    @classmethod
    def load(cls, path: Path = GAUGE) -> Self:
        """Of the file that `studies.forecast --gauge` writes."""
        values: dict[str, Any] = json.loads(path.read_text())
        records = tuple(Record(**each) for each in values.pop("records"))
        return cls(**values, records=records)

    def record_of(self, first: float, second: float) -> Record:
        """That of pairs which lay as far apart as these values."""
        apart = abs(first - second) / self.spread
        return [record for record in self.records if record.least <= apart][-1]

    def prefers(self, value: float, other: float) -> bool:
        return value < other if self.better == "lower" else value > other

    def measure(self, autoencoder: Autoencoder, source: ImageSource) -> float:
        """The number, on evenly spaced images.

        Raises:
            ValueError: in one line, if these latents do not have it.
        """
        names = [self.quantity.partition("/")[0]]
        sample = autoencoder_to_sample(autoencoder, source, min(NUM_IMAGES, len(source)), names=names)
        return predict(sample, names).values[self.quantity]


METRICS: dict[str, Metric] = {
    metric.name: metric for predictor in PREDICTORS.values() for metric in predictor.metrics()
}


def forecast(folders: Mapping[str, Path], control: str, images: str, image_size: int, gauge: Gauge) -> Iterator[str]:
    """A line for each autoencoder but the control.

    Args:
        folders: of autoencoders, by the words that people know them by.
        control: one of these words.
        images: held out from generators, a word of `open_source`.
        image_size: side, pixels.
    """
    source = open_source(images, image_size)
    values = {}
    for word, folder in folders.items():
        try:
            values[word] = gauge.measure(load_autoencoder(str(folder)).freeze(), source)
        except ValueError as error:
            yield f"forecast: none: {error}"
            return
    for word in folders:
        if word != control:
            yield sentence(gauge, word, control, values)


def sentence(gauge: Gauge, word: str, control: str, values: Mapping[str, float]) -> str:
    """What the values of an autoencoder and the control say, with the record of such forecasts."""
    value, other = values[word], values[control]
    record = gauge.record_of(value, other)
    numbers = f"{METRICS[gauge.quantity].label} {value:.3g} against {other:.3g}, {gauge.better} is better"
    rest = f"of {record.pairs} pairs about as far apart {record.share:.0%} came as foretold (docs/forecast.md)"
    if record.share < TELLING or value == other:
        return f"forecast: none for {word} against {control}: {numbers}; {rest}"
    winner, loser = (word, control) if gauge.prefers(value, other) else (control, word)
    return f"forecast: a generator learns faster on {winner} than on {loser}: {numbers}; {rest}"

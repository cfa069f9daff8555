"""From a value to its place in a chart, in percent, and round numbers to name along an axis."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RATIO_TICKS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 2, 3, 5, 10, 20, 50)
STEPS = (1, 2, 2.5, 5, 10)  # round distances between ticks, times a power of ten
MARGIN = 0.04  # of the length of an axis, beside its first and last value


@dataclass(frozen=True)
class Scale:
    """A range of values along an axis, on which places are in percent of its length.

    Args:
        low, high: at 0 and at 100 percent.
        in_logs: equal factors are equally far apart; values must be above 0.
    """

    low: float
    high: float
    in_logs: bool = False

    @classmethod
    def around(cls, values: Iterable[float], in_logs: bool = False, margin: float = MARGIN) -> "Scale":
        """The scale that holds all values, with a margin on either side."""
        numbers = [math.log(value) if in_logs else value for value in values]
        low, high = min(numbers), max(numbers)
        room = margin * ((high - low) or abs(high) or 1.0)
        low, high = low - room, high + room
        return cls(math.exp(low), math.exp(high), True) if in_logs else cls(low, high)

    def place(self, value: float) -> float:
        """Percent of the axis, rounded to a hundredth."""
        low, high = (math.log(self.low), math.log(self.high)) if self.in_logs else (self.low, self.high)
        number = math.log(value) if self.in_logs else value
        return round(100 * (number - low) / (high - low), 2)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers in the range, at most so many; on a wide log axis 1, 2, 3, 5 and 7 times powers of ten."""
        if self.in_logs and self.high / self.low > 4:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
                found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
                found = [value for value in found if self.holds(value)]
                if len(found) <= most:
                    return found
            return found[:: math.ceil(len(found) / most)]
        return self._even_ticks(most)

    def _even_ticks(self, most: int) -> list[float]:
        """The smallest round distance that leaves no more ticks than that."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in STEPS if factor * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        digits = max(0, -math.floor(math.log10(step)) + 1)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return [round((first + number) * step, digits) for number in range(count)]


def thinned(values: Sequence[float], scale: Scale, room: float) -> list[float]:
    """The last value, and those before it that are so many percent of the axis away from the one kept next."""
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        if scale.place(kept[-1]) - scale.place(value) >= room:
            kept.append(value)
    return kept[::-1]


def ratio_ticks(scale: Scale) -> list[float]:
    """Round ratios in a range, far enough from each other, 1 among them."""
    kept = [1.0]
    for tick in sorted(RATIO_TICKS, key=lambda tick: abs(math.log(tick))):
        if scale.holds(tick) and all(abs(scale.place(tick) - scale.place(other)) >= 13 for other in kept):
            kept.append(tick)
    return sorted(kept)


def short_number(value: float) -> str:
    """For an axis: 800, 12.5k, 3M, 0.02."""
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= 10 * factor or (abs(value) >= factor and factor == 1e6):
            return f"{value / factor:.4g}{unit}"
    return f"{value:,.6g}"


def short_duration(seconds: float) -> str:
    """For an axis: 30 s, 5 min, 2 h, of round numbers of seconds."""
    for unit, factor in (("h", 3600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds:.3g} s"

"""Numbers as readers see them."""

# ruff: noqa: RUF001 (readers are shown the true signs: –)

import math

from twostage.analysis.summary import Spread


def format_number(value: float | None) -> str:
    """Four significant digits, thousands separated, – for none: 1,599; 33.04; 0.0072; 5.2e-05."""
    if value is None:
        return "–"
    if value == 0 or isinstance(value, int):
        return f"{value:,}"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    decimals = max(0, 3 - max(-1, math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"


def format_duration(seconds: float | None) -> str:
    """3.2 s, 4 min 05 s, 2 h 10 min."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def with_range(spread: Spread | None) -> str:
    """Mean [lowest, highest] over seeds; the number alone where it is the same in all, as of a ready autoencoder."""
    if spread is None:
        return "–"
    if spread.low == spread.high:
        return format_number(spread.mean)
    return f"{format_number(spread.mean)} [{format_number(spread.low)}, {format_number(spread.high)}]"

"""Numbers of settings: finite, and in their range. NaN is in none, which comparisons alone let through."""

import math


def require_number(name: str, value: float, least: float = -math.inf, above: float = -math.inf) -> None:
    """Refuse a number that is not finite or too small.

    Args:
        name: of the setting, as the error has it.
        least: the smallest that is allowed.
        above: what is just too small.

    Raises:
        ValueError: naming the setting, its range and the value.
    """
    if math.isfinite(value) and value >= least and value > above:
        return
    limits = [f"at least {least:g}"] * math.isfinite(least) + [f"above {above:g}"] * math.isfinite(above)
    raise ValueError(f"{name} must be {' and '.join([*limits, 'finite'])}, got {value}")

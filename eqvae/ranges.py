"""Numbers of settings: finite, and in their range. NaN is in none, which comparisons alone let through."""

import math


def require_number(
    name: str, value: float, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> None:
    """Refuse a number that is not finite or out of its range.

    Args:
        name: of the setting, as the error has it.
        least: the smallest that is allowed.
        above: what is just too small.
        most: the largest that is allowed.

    Raises:
        ValueError: naming the setting, its range and the value.
    """
    if math.isfinite(value) and least <= value <= most and value > above:
        return
    ends = {"at least": least, "above": above, "at most": most}
    limits = [f"{words} {end:g}" for words, end in ends.items() if math.isfinite(end)]
    raise ValueError(f"{name} must be {' and '.join([*limits, 'finite'])}, got {value}")
